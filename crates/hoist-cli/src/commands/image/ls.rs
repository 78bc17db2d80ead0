//! `images`: the list of images, a row for each tag.

use hoist_api::reference::Reference;
use hoist_client::Request;
use serde_json::Value;

use super::{
    super::{Command, Run},
    tree,
};
use crate::{
    app::{App, Outcome},
    commands::FORMAT_HELP,
    flags::{Flag, Parsed, switch, text, value},
    format::{
        list::{self, Row},
        text::short_id,
        time, units,
    },
    opts::filter,
    template::Val,
};

const FLAGS: &[Flag] = &[
    switch('a', "all", "Show all images (default hides intermediate images)"),
    switch('\0', "digests", "Show digests"),
    value('f', "filter", "filter", filter::check, "Show only what fulfils the conditions"),
    text('\0', "format", FORMAT_HELP),
    switch('\0', "no-trunc", "Do not shorten output"),
    switch('q', "quiet", "Show IDs only"),
    switch('\0', "tree", "Show images with their platforms as a tree (experimental)"),
];

pub(crate) const COMMAND: Command = Command::action("ls", "Show images", "[OPTIONS] [REPOSITORY[:TAG]]", (0, 1), run)
    .flags(&[FLAGS])
    .also(&["list"])
    .aliases(&["image ls", "image list", "images"]);

/// The same as a command of its own, whose operand some take for a command of `image`.
pub(crate) const IMAGES: Command = {
    let mut command = COMMAND;
    command.run = Run::Action(run_images);
    command
};

/// Commands of `image` that are told of in place of an empty list.
const MISTAKEN: [&str; 13] =
    ["build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm", "save", "tag"];

const TABLE: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const DIGEST_TABLE: &str = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

fn run(app: &App, args: &Parsed) -> Outcome {
    if args.is("tree") { tree::run(app, args) } else { show(app, args).map(drop) }
}

fn run_images(app: &App, args: &Parsed) -> Outcome {
    if args.is("tree") {
        return tree::run(app, args);
    }
    let count = show(app, args)?;
    if let (0, Some(name)) = (count, args.args.first().filter(|name| MISTAKEN.contains(&name.as_str()))) {
        eprintln!("\nNo images found matching \"{name}\": did you mean \"{} image {name}\"?", app.program);
    }
    Ok(())
}

/// Prints the list; how many images there were.
fn show(app: &App, args: &Parsed) -> Outcome<usize> {
    let (quiet, digests) = (args.is("quiet"), args.is("digests"));
    let format = match args.text("format") {
        "" if quiet => "",
        "" => app.config().images_format.as_deref().unwrap_or_default(),
        given => given,
    };
    let template = template(format, quiet, digests);
    let images = fetch(app, args, false)?;
    let needs_digest = digests || list::mentions(&template, ".Digest");
    let (trunc, count) = (!args.is("no-trunc"), images.len());
    let rows = images.into_iter().flat_map(|image| rows(image, trunc, needs_digest, digests));
    list::print(&template, rows)?;
    Ok(count)
}

/// The images that are asked for.
pub(super) fn fetch(app: &App, args: &Parsed, with_manifests: bool) -> Outcome<Vec<Value>> {
    let mut filters = args.owned("filter");
    filters.extend(args.args.first().map(|name| format!("reference={name}")));
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    let request = Request::get("/images/json").switch("all", args.is("all")).switch("manifests", with_manifests);
    Ok(app.client()?.call(filter::add(request, &filters))?.json()?)
}

fn template(format: &str, quiet: bool, digests: bool) -> String {
    match format {
        "" | "table" if quiet => "{{.ID}}".to_owned(),
        "" | "table" if digests => DIGEST_TABLE.to_owned(),
        "" | "table" => TABLE.to_owned(),
        "raw" if quiet => "image_id: {{.ID}}".to_owned(),
        "raw" => {
            let digest = if digests { "digest: {{.Digest}}\n" } else { "" };
            format!(
                "repository: {{{{ .Repository }}}}\ntag: {{{{.Tag}}}}\n{digest}image_id: {{{{.ID}}}}\ncreated_at: {{{{.CreatedAt}}}}\nvirtual_size: {{{{.Size}}}}\n"
            )
        }
        _ if quiet => "{{.ID}}".to_owned(),
        format if format.starts_with("table") && digests && !format.contains("{{.Digest}}") => {
            format!("{format}\t{{{{.Digest}}}}")
        }
        format => format.to_owned(),
    }
}

/// The rows of one image: for each tag, and for digests of repositories without a tag.
fn rows(image: Value, trunc: bool, needs_digest: bool, show_digests: bool) -> Vec<Image> {
    let names = |key: &str| -> Vec<Reference> {
        let texts = image[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.filter(|text| !text.starts_with("<none>")).filter_map(|text| Reference::parse(text).ok()).collect()
    };
    let (tags, digests) = (names("RepoTags"), names("RepoDigests"));
    let row = |repository: &str, tag: &str, digest: &str| Image {
        item: image.clone(),
        trunc,
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        digest: digest.to_owned(),
    };
    let mut rows = Vec::new();
    if tags.is_empty() && digests.is_empty() {
        rows.push(row("<none>", "<none>", "<none>"));
    }
    for name in &tags {
        let (repository, tag) = (name.familiar_name(), name.tag.as_deref().unwrap_or("<none>"));
        let own: Vec<&str> = digests
            .iter()
            .filter(|digest| digest.name() == name.name() && needs_digest)
            .filter_map(|digest| digest.digest.as_deref())
            .collect();
        if own.is_empty() {
            rows.push(row(&repository, tag, "<none>"));
        }
        rows.extend(own.into_iter().map(|digest| row(&repository, tag, digest)));
    }
    let mut shown: Vec<String> = Vec::new();
    for name in digests.iter().filter(|digest| !tags.iter().any(|tag| tag.name() == digest.name())) {
        let digest = name.digest.as_deref().unwrap_or_default();
        if show_digests {
            rows.push(row(&name.familiar_name(), "<none>", digest));
        } else if !shown.contains(&name.name()) {
            rows.push(row(&name.familiar_name(), "<none>", ""));
            shown.push(name.name());
        }
    }
    rows
}

/// A row of the list.
pub(crate) struct Image {
    pub(crate) item: Value,
    pub(crate) trunc: bool,
    pub(crate) repository: String,
    pub(crate) tag: String,
    pub(crate) digest: String,
}

impl Image {
    /// The row of an image under its first tag alone.
    pub(crate) fn first_tag(item: Value, trunc: bool) -> Self {
        let first = item["RepoTags"].as_array().and_then(|tags| tags.first()).and_then(Value::as_str);
        let name = first.filter(|tag| !tag.starts_with("<none>")).and_then(|tag| Reference::parse(tag).ok());
        let repository = name.as_ref().map_or_else(|| "<none>".to_owned(), Reference::familiar_name);
        let tag = name.and_then(|name| name.tag).unwrap_or_else(|| "<none>".to_owned());
        Self { item, trunc, repository, tag, digest: String::new() }
    }
}

impl Image {
    /// What only our engine tells.
    fn own(&self, key: &str) -> &Value {
        &self.item["Hoist"][key]
    }
}

impl Row for Image {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("LastUsed", "LAST USED"),
        ("LastUsedAt", "LAST USED AT"),
        ("Pinned", "PINNED"),
    ];
    const TYPE_NAME: &'static str = "*formatter.imageContext";

    fn column(&self, name: &str) -> Option<Val> {
        let number = |key: &str| self.item[key].as_i64().unwrap_or(-1);
        let created = self.item["Created"].as_i64().unwrap_or_default();
        let (size, shared) = (number("Size"), number("SharedSize"));
        let id = self.item["Id"].as_str().unwrap_or_default();
        Some(Val::text(match name {
            "ID" if self.trunc => short_id(id).to_owned(),
            "ID" => id.to_owned(),
            "Repository" => self.repository.clone(),
            "Tag" => self.tag.clone(),
            "Digest" => self.digest.clone(),
            "CreatedSince" => time::ago(created),
            "CreatedAt" => time::go_string(created),
            "Size" => units::human_size_short(size as f64),
            "VirtualSize" => units::human_size(size as f64),
            "Containers" | "SharedSize" if number(name) == -1 => "N/A".to_owned(),
            "Containers" => number("Containers").to_string(),
            "SharedSize" => units::human_size(shared as f64),
            "UniqueSize" if size == -1 || shared == -1 => "N/A".to_owned(),
            "LastUsed" | "LastUsedAt" => match self.own("LastUsed").as_str().and_then(|text| text.parse().ok()) {
                Some(at) => {
                    let at: jiff::Timestamp = at;
                    if name == "LastUsed" { time::ago(at.as_second()) } else { time::go_string(at.as_second()) }
                }
                None => "N/A".to_owned(),
            },
            "Pinned" => self.own("Pinned").as_bool().map_or_else(|| "N/A".to_owned(), |pinned| pinned.to_string()),
            "UniqueSize" => units::human_size((size - shared) as f64),
            _ => return None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_tag_has_its_row() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let image = json!({
            "Id": "sha256:0123456789abcdef",
            "RepoTags": ["busybox:latest", "127.0.0.1:5000/b:1"],
            "RepoDigests": [format!("busybox@{digest}"), format!("other@{digest}")],
        });
        let text = |digests| -> Vec<String> {
            let rows = rows(image.clone(), true, digests, digests);
            rows.iter().map(|row| format!("{} {} {}", row.repository, row.tag, row.digest)).collect()
        };
        assert_eq!(text(false), ["busybox latest <none>", "127.0.0.1:5000/b 1 <none>", "other <none> "]);
        assert_eq!(
            text(true),
            [
                format!("busybox latest {digest}"),
                "127.0.0.1:5000/b 1 <none>".to_owned(),
                format!("other <none> {digest}")
            ]
        );
        assert_eq!(rows(json!({"RepoTags": []}), true, false, false).len(), 1);
    }
}
