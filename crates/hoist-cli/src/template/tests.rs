//! Templates against the strings the real client printed for them.

use serde_json::json;

use super::*;

fn raw(template: &str, data: serde_json::Value) -> Result<String, String> {
    Template::parse(template)?.execute(&Val::raw(data))
}

fn typed(template: &str, data: serde_json::Value) -> Result<String, String> {
    Template::parse(template)?.execute(&Val::typed(data, "*container.InspectResponse"))
}

#[test]
fn pipelines_functions_and_literals_work() {
    let data = json!({"Name": "/web", "Ids": ["a", "b", "c"], "N": 3, "M": {"k": "v", "a": "b"}, "E": ""});
    let cases = [
        ("{{.Name}}", "/web"),
        ("{{ .Name | upper | printf \"<%s>\" }}", "</WEB>"),
        ("{{index .Ids 1}} {{len .Ids}} {{join .Ids \"-\"}}", "b 3 a-b-c"),
        ("{{range $i, $x := .Ids}}{{if $i}},{{end}}{{$x}}{{end}}", "a,b,c"),
        ("{{range .Ids}}{{.}}{{else}}none{{end}}", "abc"),
        ("{{range $k, $v := .M}}{{$k}}={{$v}};{{end}}", "a=b;k=v;"),
        ("{{with .E}}x{{else}}empty{{end}}", "empty"),
        ("{{if and (eq .N 3) (ne .Name \"x\")}}yes{{else if .E}}e{{else}}no{{end}}", "yes"),
        ("{{json .}}", r#"{"Name":"/web","Ids":["a","b","c"],"N":3,"M":{"k":"v","a":"b"},"E":""}"#),
        ("{{.Ids}} {{.M}}", "[a b c] map[a:b k:v]"),
        ("{{slice .Name 1}} {{slice .Name 0 2}}", "web /w"),
        ("{{printf \"%q %5d|%-5s|%05d %x\" .Name .N \"a\" 42 255}}", "\"/web\"     3|a    |00042 ff"),
        ("{{printf \"%d %s\" \"a\"}}", "%!d(string=a) %!s(MISSING)"),
        ("a {{- .N -}} b", "a3b"),
        ("{{/* note */}}x{{- /* y */ -}} z", "xz"),
        ("{{$x := 1}}{{$x = 2}}{{$x}}", "2"),
        ("{{define \"t\"}}[{{.}}]{{end}}{{template \"t\" .N}}", "[3]"),
        ("{{range .Ids}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "ac"),
        ("{{(index .M \"k\") | title}}", "V"),
        ("{{split \"a,b\" \",\"}} {{truncate \"abcdef\" 3}} {{pad \"x\" 1 2}}|", "[a b] abc  x  |"),
        ("{{println 1 2}}", "1 2\n"),
        (
            "{{not true}} {{or \"\" \"d\"}} {{lt 1 2}} {{html \"<a>\"}} {{urlquery \"a b/\"}}",
            "false d true &lt;a&gt; a+b%2F",
        ),
        ("{{\"quoted\\t\"}}{{`raw\\t`}}{{'a'}}", "quoted\traw\\t97"),
    ];
    for (template, expected) in cases {
        assert_eq!(raw(template, data.clone()).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn broken_templates_give_go_s_errors() {
    let cases = [
        ("{{.ID", "template: :1: unclosed action"),
        ("{{foo}}", "template: :1: function \"foo\" not defined"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{if .a}}x", "template: :1: unexpected EOF"),
        ("{{}}", "template: :1: missing value for command"),
        ("{{$x}}", "template: :1: undefined variable \"$x\""),
        ("{{\"a}}", "template: :1: unterminated quoted string"),
        ("{{.a | 5}}", "template: :1: non executable command in pipeline stage 2"),
        ("{{(.a}}", "template: :1: unclosed left paren"),
        ("a\nb{{.a!}}", "template: :2: bad character U+0021 '!'"),
    ];
    for (template, expected) in cases {
        assert_eq!(raw(template, json!({})).as_deref().unwrap_err(), expected, "{template}");
    }
}

#[test]
fn execution_errors_name_place_and_expression() {
    let cases = [
        ("{{.Foo}}", "template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\""),
        ("{{.State.Foo}}", "template: :1:8: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\""),
        ("{{upper}}", "template: :1:2: executing \"\" at <upper>: wrong number of args for upper: want 1 got 0"),
        (
            "{{index .L 9}}",
            "template: :1:2: executing \"\" at <index .L 9>: error calling index: index out of range: 9",
        ),
        ("{{call}}", "template: :1:2: executing \"\" at <call>: wrong number of args for call: want at least 1 got 0"),
        (
            "{{call .N}}",
            "template: :1:2: executing \"\" at <call .N>: error calling call: non-function .N of type string",
        ),
    ];
    for (template, expected) in cases {
        let error = raw(template, json!({"State": {"A": 1}, "L": [], "N": "n"})).unwrap_err();
        assert_eq!(error, expected, "{template}");
    }
}

#[test]
fn typed_answers_know_maps_nulls_and_absent_fields() {
    let data = json!({
        "Config": {"Labels": {"a": "b"}, "Env": null, "Volumes": null},
        "State": {"Running": true},
        "HostConfig": {"LogConfig": {"Type": "json-file", "Config": {}}, "PidsLimit": null, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}},
        "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/tcp": null}, "Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
        "Mounts": [{"Type": "bind", "Source": "/a", "Destination": "/b", "Mode": "", "RW": true, "Propagation": "rprivate"}],
    });
    let cases = [
        ("{{.Config.Labels.nope}}|{{index .Config.Labels \"nope\"}}|{{.Config.Labels.a}}", "<no value>||b"),
        ("{{.Config.Env}}{{.Config.Volumes}}{{.HostConfig.PidsLimit}}", "[]map[]<nil>"),
        ("{{if .State.Health}}h{{else}}none{{end}}", "none"),
        ("{{.NetworkSettings.Ports}}", "map[80/tcp:[{0.0.0.0 8080}] 81/tcp:[]]"),
        ("{{range $p, $c := .NetworkSettings.Ports}}{{$p}} {{end}}", "80/tcp 81/tcp "),
        ("{{.NetworkSettings.Networks.bridge.IPAddress}}", "172.17.0.2"),
        ("{{.HostConfig.RestartPolicy}} {{.HostConfig.LogConfig}}", "{no 0} {json-file map[]}"),
        ("{{.Mounts}}", "[{bind  /a /b   true rprivate}]"),
        (
            "{{json .Mounts}}",
            r#"[{"Type":"bind","Source":"/a","Destination":"/b","Mode":"","RW":true,"Propagation":"rprivate"}]"#,
        ),
    ];
    for (template, expected) in cases {
        assert_eq!(typed(template, data.clone()).as_deref(), Ok(expected), "{template}");
    }
    // Go's type of the keys is no string: the client tries again on the JSON, where it works
    let index = "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}";
    assert!(typed(index, data.clone()).is_err());
    assert_eq!(raw(index, data.clone()).as_deref(), Ok("8080"));
    let error = typed("{{.Nope}}", data).unwrap_err();
    assert!(error.ends_with("can't evaluate field Nope in type *container.InspectResponse"), "{error}");
}

#[test]
fn fields_that_an_answer_leaves_out_are_empty() {
    let image = json!({"Id": "sha256:0", "Config": {"Cmd": ["sh"]}, "RootFS": {"Type": "layers"}});
    let of_image = |template: &str| {
        Template::parse(template).unwrap().execute(&Val::typed(image.clone(), "*image.InspectResponse"))
    };
    let texts = "{{.Config.User}}{{.Config.WorkingDir}}{{.Config.StopSignal}}{{.Parent}}{{.Comment}}{{.DockerVersion}}{{.Author}}";
    assert_eq!(of_image(texts).as_deref(), Ok(""));
    let others = "{{.Config.Entrypoint}} {{.Config.Env}} {{.Config.Labels}} {{.Config.Volumes}} {{.Config.Healthcheck}} {{.ContainerConfig}} {{.VirtualSize}} {{json .Config.Labels}} {{json .Config.User}} {{.RootFS.Layers}} {{.Config.Labels.foo}}";
    assert_eq!(of_image(others).as_deref(), Ok("[] [] map[] map[] <nil> <nil> 0 null \"\" [] <no value>"));
    assert_eq!(of_image("{{.Config}}").as_deref(), Ok("{{ map[] [] [] [sh] map[]  map[]  false} {<nil> [] []}}"));
    // what only the configuration of a container has
    assert!(of_image("{{.Config.Hostname}}").is_err() && of_image("{{.Nope}}").is_err());
}

#[test]
fn structs_are_printed_whole_and_old_addresses_are_found() {
    let data = json!({
        "Config": {"Hostname": "h", "AttachStdout": true, "Env": ["A=b"], "Cmd": ["sh"], "Image": "b", "Labels": {}},
        "HostConfig": {"NetworkMode": "bridge", "LogConfig": {"Type": "json-file", "Config": {}}, "Memory": 5,
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "CpuShares": 7, "ConsoleSize": [0, 0],
            "Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b"}]},
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2", "IPPrefixLen": 16}}},
    });
    let cases = [
        (
            "{{.Config}}",
            "{h   false true false map[] false false false [A=b] [sh] <nil> false b map[]  [] false  [] map[]  <nil> []}",
        ),
        (
            "{{.HostConfig}}",
            "{[]  {json-file map[]} bridge map[] {no 0} false  [] [0 0] map[] [] []  [] [] [] [] []   [] 0  false false false [] map[] map[]   0 map[]   {7 5 0  0 [] [] [] [] [] 0 0 0 0   [] [] [] 0 0 0 0 <nil> <nil> <nil> [] 0 0 0 0} [{bind /a /b false  <nil> <nil> <nil> <nil> <nil>}] [] [] <nil>}",
        ),
        ("{{.HostConfig.KernelMemory}} {{.HostConfig.CPUCount}} {{.HostConfig.Init}}", "0 0 <nil>"),
        ("{{range .HostConfig.Mounts}}{{.ReadOnly}} {{.BindOptions}}{{end}}", "false <nil>"),
        (
            "{{.NetworkSettings.IPAddress}}/{{.NetworkSettings.IPPrefixLen}} {{.NetworkSettings.Bridge}}|",
            "172.17.0.2/16 |",
        ),
    ];
    for (template, expected) in cases {
        assert_eq!(typed(template, data.clone()).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn deep_nesting_is_refused_before_the_stack_ends() {
    let blocks = "{{if 1}}".repeat(20_000);
    assert!(raw(&blocks, json!({})).unwrap_err().contains("nested too deeply"));
    let parens = format!("{{{{{}1{}}}}}", "(".repeat(20_000), ")".repeat(20_000));
    assert!(raw(&parens, json!({})).unwrap_err().contains("max paren depth"));
}

#[test]
fn a_template_without_an_end_is_an_error() {
    for endless in [
        "{{range 99999999999}}{{end}}",
        "{{range 9999}}{{range 9999}}{{end}}{{end}}",
        r#"{{range 9999}}{{printf "%999999d" 1}}{{end}}"#,
    ] {
        assert!(raw(endless, json!({})).unwrap_err().contains("does not end"), "{endless}");
    }
}

#[test]
fn a_precision_beyond_all_reason_is_cut() {
    let long = raw(r#"{{printf "%.999999f" 1.5}}"#, json!({})).unwrap();
    assert_eq!(long.len(), 2 + 50_000);
}
