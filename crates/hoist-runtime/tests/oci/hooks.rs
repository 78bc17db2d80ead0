//! Hooks: order, where they run, what they are told, and what their failure does.

use super::Test;
use super::bundle::Bundle;

pub(crate) const TESTS: &[Test] = &[
    ("hooks_run_in_their_order_and_namespaces_with_the_state", in_order),
    ("a_failing_hook_before_the_start_undoes_everything", failing_create_hook),
    ("a_failing_poststart_hook_stops_the_container", failing_poststart),
    ("a_failing_poststop_hook_is_a_warning", failing_poststop),
];

/// A hook that appends its kind, the state's status, and the network namespace that it runs in to a file of the host.
fn note(kind: &str, file: &str) -> serde_json::Value {
    let script = format!(
        "state=$(cat); status=${{state##*'\"status\":\"'}}; status=${{status%%'\"'*}}; \
         pid=${{state##*'\"pid\":'}}; pid=${{pid%%,*}}; \
         echo {kind} $status $(readlink /proc/self/ns/net) $([ \"$pid\" -ge 0 ] && echo pid) >> {file}"
    );
    serde_json::json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
}

fn in_order() {
    let bundle = Bundle::new(&["sh", "-c", "cat /note; readlink /proc/self/ns/net"]);
    let file = bundle.path.join("notes");
    let file = file.to_str().unwrap();
    bundle.change(|config| {
        config["root"]["readonly"] = false.into();
        config["hooks"] = serde_json::json!({
            "prestart": note("prestart", file),
            "createRuntime": note("createRuntime", file),
            "createContainer": note("createContainer", file),
            "startContainer": note("startContainer", "/note"),
            "poststart": note("poststart", file),
            "poststop": note("poststop", file),
        });
    });
    let output = bundle.run(&["run", &bundle.id]);
    let notes = std::fs::read_to_string(file).unwrap();
    let host = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    let inside = output.lines().nth(1).unwrap();
    assert_ne!(inside, host);
    assert_eq!(output.lines().next().unwrap(), format!("startContainer created {inside} pid"));
    let expected = [
        format!("prestart creating {host} pid"),
        format!("createRuntime creating {host} pid"),
        format!("createContainer creating {inside} pid"),
        format!("poststart running {host} pid"),
        format!("poststop stopped {host} pid"),
    ];
    assert_eq!(notes.lines().collect::<Vec<_>>(), expected);
}

fn failing() -> serde_json::Value {
    serde_json::json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo the reason >&2; exit 1"]}])
}

fn failing_create_hook() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = Bundle::new(&["true"]);
        bundle.change(|config| config["hooks"][kind] = failing());
        let text = bundle.fail(&["create", &bundle.id]);
        assert!(text.contains(&format!("error running {kind} hook #0")) && text.contains("the reason"), "{text}");
        bundle.assert_gone();
    }
    let bundle = Bundle::new(&["true"]);
    bundle.change(|config| config["hooks"]["startContainer"] = failing());
    bundle.create(&[]);
    let text = bundle.fail(&["start", &bundle.id]);
    assert!(text.contains("error running startContainer hook #0"), "{text}");
    bundle.wait_for("stopped");
}

fn failing_poststart() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.change(|config| config["hooks"]["poststart"] = failing());
    bundle.create(&[]);
    assert!(bundle.fail(&["start", &bundle.id]).contains("error running poststart hook #0"));
    bundle.wait_for("stopped");
}

fn failing_poststop() {
    let bundle = Bundle::new(&["true"]);
    bundle.change(|config| config["hooks"]["poststop"] = failing());
    let output = bundle.output(&["run", &bundle.id]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("level=warning"));
    bundle.assert_gone();
}
