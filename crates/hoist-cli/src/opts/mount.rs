//! `--mount`, `--volume` and `--tmpfs`.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value, json};

use super::csv;
use crate::flags::check::parse_bool;

pub(crate) fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

/// One `--mount` as the API takes it.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("EOF".to_owned());
    }
    let mut mount = json!({"Type": "volume"});
    for field in csv::fields(text)? {
        set_field(&mut mount, &field)?;
    }
    check_groups(&mount)?;
    Ok(mount)
}

/// What to tell whoever gives this `--mount`.
pub(crate) fn deprecation(text: &str) -> Option<&'static str> {
    // as with Docker, the key without a value is taken in silence
    let is_old = |field: &String| field.to_lowercase().starts_with("bind-nonrecursive=");
    let is_old = csv::fields(text.trim()).is_ok_and(|fields| fields.iter().any(is_old));
    is_old.then_some("bind-nonrecursive is deprecated, use bind-recursive=disabled instead")
}

fn set_field(mount: &mut Value, field: &str) -> Result<(), String> {
    let (key, value) = match field.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (field, None),
    };
    let key = key.to_lowercase();
    if value.is_none()
        && !matches!(key.as_str(), "readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive" | "bind-create-src")
    {
        return Err(format!("invalid field '{field}' must be a key=value pair"));
    }
    let text = value.unwrap_or_default();
    match key.as_str() {
        "type" => mount["Type"] = text.to_lowercase().into(),
        "source" | "src" => mount["Source"] = if text.starts_with('.') { absolute(text) } else { text.into() }.into(),
        "target" | "dst" | "destination" => mount["Target"] = text.into(),
        "readonly" | "ro" => mount["ReadOnly"] = boolean(&key, value)?.into(),
        "consistency" => mount["Consistency"] = text.to_lowercase().into(),
        "bind-propagation" => mount["BindOptions"]["Propagation"] = text.to_lowercase().into(),
        "bind-nonrecursive" => mount["BindOptions"]["NonRecursive"] = boolean(&key, value)?.into(),
        "bind-create-src" => mount["BindOptions"]["CreateMountpoint"] = boolean(&key, value)?.into(),
        "bind-recursive" => set_recursive(mount, &key, text)?,
        "volume-subpath" => mount["VolumeOptions"]["Subpath"] = text.into(),
        "volume-nocopy" => mount["VolumeOptions"]["NoCopy"] = boolean(&key, value)?.into(),
        "volume-label" => put(&mut mount["VolumeOptions"]["Labels"], text),
        "volume-driver" => mount["VolumeOptions"]["DriverConfig"]["Name"] = text.into(),
        "volume-opt" => put(&mut mount["VolumeOptions"]["DriverConfig"]["Options"], text),
        "image-subpath" => mount["ImageOptions"]["Subpath"] = text.into(),
        "tmpfs-size" => {
            let bytes = hoist_api::size::parse(text).map_err(|_| format!("invalid value for {key}: {text}"))?;
            mount["TmpfsOptions"]["SizeBytes"] = bytes.into();
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(text, 8).map_err(|_| format!("invalid value for {key}: {text}"))?;
            mount["TmpfsOptions"]["Mode"] = mode.into();
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn boolean(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None => Ok(true),
        Some(text) => parse_bool(text).ok_or_else(|| format!("invalid value for {key}: {text}")),
    }
}

fn set_recursive(mount: &mut Value, key: &str, text: &str) -> Result<(), String> {
    let option = match text {
        "enabled" => return Ok(()),
        "disabled" => "NonRecursive",
        "writable" => "ReadOnlyNonRecursive",
        "readonly" => "ReadOnlyForceRecursive",
        _ => {
            let choices = "must be \"enabled\", \"disabled\", \"writable\", or \"readonly\"";
            return Err(format!("invalid value for {key}: {text} ({choices})"));
        }
    };
    mount["BindOptions"][option] = true.into();
    Ok(())
}

fn put(map: &mut Value, pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    if !key.is_empty() {
        map[key] = value.into();
    }
}

fn check_groups(mount: &Value) -> Result<(), String> {
    let kind = mount["Type"].as_str().unwrap_or_default();
    if kind.is_empty() {
        return Err("type is required".to_owned());
    }
    if mount["Target"].as_str().is_none_or(str::is_empty) {
        return Err("target is required".to_owned());
    }
    for (options, owner) in
        [("BindOptions", "bind"), ("VolumeOptions", "volume"), ("ImageOptions", "image"), ("TmpfsOptions", "tmpfs")]
    {
        if kind != owner && mount.get(options).is_some() {
            return Err(format!("cannot mix '{owner}-*' options with mount type '{kind}'"));
        }
    }
    let bind = &mount["BindOptions"];
    let read_only = mount["ReadOnly"] == true;
    let requires = |what: &str, needs: &str| {
        Err(format!("option 'bind-recursive={what}' requires '{needs}' to be specified in conjunction"))
    };
    if bind["ReadOnlyNonRecursive"] == true && !read_only {
        return requires("writable", "readonly");
    }
    if bind["ReadOnlyForceRecursive"] == true && !read_only {
        return requires("readonly", "readonly");
    }
    if bind["ReadOnlyForceRecursive"] == true && bind["Propagation"] != "rprivate" {
        return requires("readonly", "bind-propagation=rprivate");
    }
    Ok(())
}

/// `--volume`s apart: what is bound, and the bare paths that become anonymous volumes.
pub(crate) fn volumes(specs: &[&str]) -> Result<(Vec<String>, Map<String, Value>), String> {
    let (mut binds, mut anonymous) = (Vec::new(), Map::new());
    for spec in specs {
        if spec.is_empty() {
            return Err("invalid empty volume spec".to_owned());
        }
        if !has_source(spec).map_err(|why| format!("invalid spec: {spec}: {why}"))? {
            anonymous.insert((*spec).to_owned(), json!({}));
            continue;
        }
        let bind = match spec.split_once(':') {
            Some((source, rest)) if source.starts_with('.') => format!("{}:{rest}", absolute(source)),
            _ => (*spec).to_owned(),
        };
        // the same one given twice is one
        if !binds.contains(&bind) {
            binds.push(bind);
        }
    }
    Ok((binds, anonymous))
}

/// Whether a `--volume` names what to mount, by the rules of Docker's client: one letter and a colon is a drive of Windows, and
/// nothing is to be found in two characters.
fn has_source(spec: &str) -> Result<bool, &'static str> {
    if spec.len() <= 2 {
        return Ok(false);
    }
    let (mut sections, mut section) = (0, String::new());
    for letter in spec.chars().map(Some).chain([None]) {
        let mut letters = section.chars();
        let is_drive = letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none();
        match letter {
            Some(letter) if letter != ':' || is_drive => section.push(letter),
            _ if section.is_empty() => return Err("empty section between colons"),
            None if sections == 0 => return Ok(false),
            Some(_) if sections == 2 => return Err("too many colons"),
            _ => {
                section.clear();
                sections += 1;
            }
        }
    }
    Ok(true)
}

/// `--tmpfs path[:options]` as a map.
pub(crate) fn tmpfs(specs: &[&str]) -> Map<String, Value> {
    let split = |spec: &&str| {
        let (path, options) = spec.split_once(':').unwrap_or((spec, ""));
        (path.to_owned(), Value::from(options))
    };
    specs.iter().map(split).collect()
}

/// A relative path seen from the current directory, without `.` and `..`.
fn absolute(path: &str) -> String {
    let Ok(base) = std::env::current_dir() else { return path.to_owned() };
    let mut out = PathBuf::new();
    for component in base.join(Path::new(path)).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_become_the_api_s_shape() {
        let cases = [
            ("type=bind,src=/a,dst=/b,ro", r#"{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true}"#),
            ("target=/v", r#"{"Type":"volume","Target":"/v"}"#),
            (
                "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770",
                r#"{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1048576,"Mode":1016}}"#,
            ),
            (
                "src=v,dst=/v,volume-opt=type=nfs,\"volume-opt=o=addr=1,rw\",volume-label=a=b,volume-nocopy",
                r#"{"Type":"volume","Source":"v","Target":"/v","VolumeOptions":{"DriverConfig":{"Options":{"type":"nfs","o":"addr=1,rw"}},"Labels":{"a":"b"},"NoCopy":true}}"#,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn volumes_are_told_apart_as_docker_s_client_does() {
        let sorted = |spec: &str| {
            volumes(&[spec]).map(|(binds, anonymous)| {
                binds.into_iter().chain(anonymous.keys().map(|k| format!("+{k}"))).collect::<String>()
            })
        };
        for bound in ["a:b:c:d", "/a:/b", "/a:/b:c:d", "a:b:c", "vol:/x:ro", "a:b:c:d:e"] {
            assert_eq!(sorted(bound).as_deref(), Ok(bound));
        }
        for anonymous in ["/a", ":", "a:", "a:b", "/"] {
            assert_eq!(sorted(anonymous), Ok(format!("+{anonymous}")));
        }
        let refused = |spec: &str, why: &str| assert_eq!(sorted(spec), Err(format!("invalid {why}")), "{spec}");
        refused("/a:/b:ro:d", "spec: /a:/b:ro:d: too many colons");
        refused(":::", "spec: :::: empty section between colons");
        refused("/a:", "spec: /a:: empty section between colons");
        refused("", "empty volume spec");
    }

    #[test]
    fn wrong_mounts_are_refused_in_docker_s_words() {
        let cases = [
            ("x", "invalid field 'x' must be a key=value pair"),
            ("type=bind,foo=1", "unexpected key 'foo' in 'foo=1'"),
            ("type=tmpfs,dst=/x,bind-propagation=shared", "cannot mix 'bind-*' options with mount type 'tmpfs'"),
            ("type=bind", "target is required"),
            ("dst=/x,readonly=maybe", "invalid value for readonly: maybe"),
            ("type=tmpfs,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
            ("", "EOF"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn an_old_key_with_a_value_is_told() {
        assert!(deprecation("type=bind,src=/a,dst=/b,bind-nonrecursive=false").is_some());
        assert_eq!(deprecation("type=bind,src=/a,dst=/b,bind-nonrecursive"), None);
        assert_eq!(deprecation("type=bind,src=/a,dst=/b,bind-recursive=disabled"), None);
    }

    #[test]
    fn volumes_without_a_source_are_anonymous() {
        let (binds, anonymous) = volumes(&["/data", "v:/x:ro", "/a:/b", "/a:/b"]).unwrap();
        assert_eq!(binds, ["v:/x:ro", "/a:/b"]);
        assert_eq!(anonymous.keys().collect::<Vec<_>>(), ["/data"]);
        let (binds, _) = volumes(&["./q/../r:/x"]).unwrap();
        assert_eq!(binds, [format!("{}/r:/x", std::env::current_dir().unwrap().display())]);
        assert!(volumes(&[":/x"]).is_err() && volumes(&[""]).is_err());
    }
}
