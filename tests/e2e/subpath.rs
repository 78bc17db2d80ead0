//! Parts of volumes, which are as untrusted as the containers that have the whole.

use hoist_tests::both;

#[test]
fn a_link_put_in_the_place_of_a_subpath_does_not_lead_out_of_the_volume() {
    both(|t| {
        let (volume, whole, part) = (t.name("volume"), t.name("whole"), t.name("part"));
        t.cli(&format!("run -d --name {whole} -v {volume}:/all busybox sleep 1000")).ok();
        t.args(&["exec", &whole, "sh", "-c", "mkdir /all/a && echo inside > /all/a/file"]).ok();
        let mount = format!("type=volume,src={volume},dst=/sub,volume-subpath=a");
        t.cli(&format!("run -d --name {part} --mount {mount} busybox sleep 1000")).ok();
        t.cli(&format!("exec {part} cat /sub/file")).ok().prints("inside");
        for target in ["/", "/proc/1/root", "../../../../../.."] {
            let swap = format!("rm -rf /all/b; mv /all/a /all/b; ln -s {target} /all/a");
            t.args(&["exec", &whole, "sh", "-c", &swap]).ok();
            // Refusing is as safe as finding what the link leads to inside the volume.
            if t.cli(&format!("restart -t 0 {part}")).code == 0 {
                let listed = t.cli(&format!("exec {part} ls /sub"));
                assert!(!listed.lines().iter().any(|name| ["proc", "etc", "usr"].contains(name)), "{listed}");
            }
            t.args(&["exec", &whole, "sh", "-c", "rm /all/a && mv /all/b /all/a"]).ok();
            t.cli(&format!("restart -t 0 {part}")).ok();
            t.cli(&format!("exec {part} cat /sub/file")).ok().prints("inside");
        }
    });
}

#[test]
fn a_subpath_need_not_be_there_before_the_start() {
    both(|t| {
        let (volume, name) = (t.name("volume"), t.name("part"));
        let mount = format!("type=volume,src={volume},dst=/sub,volume-subpath=./a/../b");
        t.cli(&format!("create --name {name} --mount {mount} busybox ls -d /sub")).ok();
        t.cli(&format!("start {name}")).fails_with(1).complains("/b: no such file or directory");
        t.cli(&format!("run --rm -v {volume}:/all busybox mkdir /all/b")).ok();
        t.cli(&format!("start -a {name}")).ok().prints("/sub");
    });
}
