//! What the user's `config.json` says beyond credentials: filters of prunes, proxies of containers.

use hoist_tests::{Bed, both, hoist};

fn configure(t: &Bed, text: &str) {
    std::fs::write(t.home().join("config.json"), text).unwrap();
}

#[test]
fn prunes_have_the_filters_of_the_file_too() {
    both(|t| {
        let (kept, gone, mine) = (t.name("kept"), t.name("gone"), t.name("mine"));
        t.cli(&format!("create --name {kept} -l {mine} -l keep busybox")).ok();
        t.cli(&format!("create --name {gone} -l {mine} busybox")).ok();
        configure(t, r#"{"pruneFilters": ["label!=keep", "until=1h"]}"#);
        let warning = "\n\n  Items to be pruned will be filtered with:\n  - label!=keep\n  - label=x\n  - until=1h\n\n";
        t.cli_with("system prune --filter label=x", b"n\n").says(warning);
        t.cli(&format!("container prune -f --filter label={mine}")).ok().prints("Total reclaimed space: 0B");
        configure(t, r#"{"pruneFilters": ["label!=keep"]}"#);
        t.cli(&format!("container prune -f --filter label={mine}")).ok().says("Deleted Containers:");
        t.cli(&format!("inspect {gone}")).fails();
        t.inspect(&kept);
        // a flag that asks for the very label is heard
        t.cli(&format!("container prune -f --filter label={mine} --filter label=keep")).ok();
        t.cli(&format!("inspect {kept}")).fails();
    });
}

/// Docker 28.5 forgets the file's labels where no flag is about labels, and removes what they keep.
#[test]
fn the_file_s_labels_hold_without_a_flag() {
    hoist(|t| {
        configure(t, r#"{"pruneFilters": ["label!=keep"]}"#);
        t.cli_with("system prune", b"n\n").says("will be filtered with:\n  - label!=keep\n");
    });
}

#[test]
fn containers_have_the_proxies_of_the_file() {
    both(|t| {
        let engine = format!("unix://{}", t.engine.socket.display());
        let other = r#""tcp://other:2375": {"allProxy": "http://other:1"}"#;
        let default = r#""default": {"httpProxy": "http://proxy:3128", "noProxy": "localhost,.lan"}"#;
        configure(t, &format!(r#"{{"proxies": {{{other}, {default}}}}}"#));
        let shown = |flags: &str| {
            let ran = t.cli(&format!("run --rm {flags} busybox env")).ok();
            let mut lines: Vec<String> = ran.lines().into_iter().map(str::to_owned).collect();
            lines.retain(|line| line.to_lowercase().contains("_proxy="));
            lines.sort();
            lines
        };
        let both_cases = ["HTTP_PROXY=http://proxy:3128", "NO_PROXY=localhost,.lan", "http_proxy=http://proxy:3128"];
        assert_eq!(shown("")[..3], both_cases);
        assert_eq!(shown("").len(), 4);
        assert_eq!(shown("-e HTTP_PROXY=mine -e http_proxy -e NO_PROXY=")[..2], ["HTTP_PROXY=mine", "NO_PROXY="]);
        assert_eq!(shown("-e HTTP_PROXY=mine -e http_proxy -e NO_PROXY=").len(), 3);
        configure(t, &format!(r#"{{"proxies": {{"{engine}": {{"ftpProxy": "ftp://p"}}, {default}}}}}"#));
        assert_eq!(shown(""), ["FTP_PROXY=ftp://p", "ftp_proxy=ftp://p"]);
        let name = t.name("proxied");
        t.cli(&format!("create --name {name} busybox sleep 1000")).ok();
        assert!(t.inspect(&name)["Config"]["Env"].to_string().contains("\"FTP_PROXY=ftp://p\""));
    });
}
