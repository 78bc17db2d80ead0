//! Bind mounts, tmpfs, named and anonymous volumes.

use hoist_tests::{Entry, Image, both, engine, skip};
use serde_json::json;

#[test]
fn a_directory_of_the_host_is_seen_and_written_through() {
    both(|t| {
        let dir = t.host_dir();
        dir.write("file", "from the host");
        t.cli(&format!("run --rm -v {}:/data busybox sh -c 'cat /data/file; echo inside > /data/new'", dir.path))
            .ok()
            .prints("from the host");
        assert_eq!(dir.read("new"), "inside\n");
        let name = t.name("live");
        t.cli(&format!("run -d --name {name} -v {}:/data busybox sleep 1000", dir.path)).ok();
        dir.write("file", "changed");
        t.cli(&format!("exec {name} cat /data/file")).ok().prints("changed");
    });
}

#[test]
fn a_read_only_mount_cannot_be_written() {
    both(|t| {
        let dir = t.host_dir();
        dir.write("file", "x");
        let touch = t.cli(&format!("run --rm -v {}:/data:ro busybox touch /data/new", dir.path)).fails_with(1);
        touch.complains("Read-only file system");
        let mount = format!("type=bind,source={},target=/data,readonly", dir.path);
        t.cli(&format!("run --rm --mount {mount} busybox sh -c 'cat /data/file && ! touch /data/file'")).ok();
        t.cli(&format!("run --rm --mount {mount} busybox mount -o remount,rw /data")).fails();
    });
}

#[test]
fn a_single_file_can_be_mounted() {
    both(|t| {
        let dir = t.host_dir();
        dir.write("config", "setting\n");
        t.cli(&format!("run --rm -v {}/config:/etc/some/config:ro busybox cat /etc/some/config", dir.path))
            .ok()
            .prints("setting");
    });
}

#[test]
fn v_makes_a_missing_directory_and_mount_refuses_it() {
    both(|t| {
        let dir = t.host_dir();
        t.cli(&format!("run --rm -v {}/made/here:/data busybox touch /data/x", dir.path)).ok();
        assert!(dir.ours().join("made/here/x").is_file());
        let mount = format!("type=bind,source={}/absent,target=/data", dir.path);
        let refused = t.cli(&format!("run --rm --mount {mount} busybox true")).fails_with(125);
        refused.complains("bind source path does not exist");
        assert!(!dir.ours().join("absent").exists());
    });
}

#[test]
fn wrong_mounts_are_refused() {
    both(|t| {
        t.cli("run --rm -v relative/path:/data busybox true").fails_with(125);
        t.cli("run --rm -v /tmp:relative busybox true").fails_with(125);
        t.cli("run --rm -v /tmp:/data:nonsense busybox true").fails_with(125).complains("nonsense");
        t.cli("run --rm -v /tmp:/ busybox true").fails_with(125).complains("destination can't be '/'");
        t.cli("run --rm --mount type=nonsense,target=/x busybox true").fails_with(125).complains("nonsense");
        t.cli("run --rm --mount type=bind,target=/x busybox true").fails_with(125);
        t.cli("run --rm -v /tmp:/a -v /var:/a busybox true").fails_with(125).complains("Duplicate mount point");
    });
}

#[test]
fn tmpfs_has_size_and_mode() {
    both(|t| {
        let ran =
            t.cli("run --rm --tmpfs /t:size=1m,mode=1770 busybox sh -c 'stat -c %a /t; mount | grep \" /t \"'").ok();
        ran.says("1770").says("tmpfs").says("size=1024k").says("noexec");
        t.cli("run --rm --mount type=tmpfs,dst=/t,tmpfs-size=1m busybox dd if=/dev/zero of=/t/x bs=1M count=2").fails();
        t.cli("run --rm --tmpfs /t:nonsense busybox true").fails_with(125);
    });
}

#[test]
fn a_named_volume_outlives_its_containers() {
    both(|t| {
        let volume = t.name("volume");
        t.cli(&format!("run --rm -v {volume}:/data busybox sh -c 'echo kept > /data/file'")).ok();
        t.cli(&format!("run --rm -v {volume}:/elsewhere:ro busybox cat /elsewhere/file")).ok().prints("kept");
        let name = t.name("user");
        t.cli(&format!("create --name {name} -v {volume}:/data busybox")).ok();
        let mounts = t.inspect(&name)["Mounts"].clone();
        assert_eq!((&mounts[0]["Type"], &mounts[0]["Name"]), (&json!("volume"), &json!(volume)));
        assert_eq!((&mounts[0]["Destination"], &mounts[0]["RW"]), (&json!("/data"), &json!(true)));
        t.cli(&format!("rm -v {name}")).ok();
        t.cli(&format!("run --rm -v {volume}:/data busybox cat /data/file")).ok().prints("kept");
        t.api().delete(&format!("/volumes/{volume}"));
    });
}

#[test]
fn a_new_volume_gets_what_the_image_has_there() {
    both(|t| {
        let name = format!("{}:latest", t.name("copy-up"));
        let entries = [
            Entry::directory("data/").mode(0o750).owner(1000, 50),
            Entry::file("data/file", "from the image").owner(7, 8),
            Entry::symlink("data/link", "file"),
        ];
        t.load(&name, &Image::busybox_with(&entries, json!({ "Volumes": { "/data": {} } })));
        let volume = t.name("volume");
        let look = "stat -c '%a %u %g' /data; stat -c '%u %g' /data/file; cat /data/link";
        t.cli(&format!("run --rm -v {volume}:/data {name} sh -c \"{look}\""))
            .ok()
            .prints("750 1000 50\n7 8\nfrom the image");
        let nocopy = t.name("volume");
        t.cli(&format!("run --rm -v {nocopy}:/data:nocopy {name} ls /data")).ok().prints("");
        let container = t.name("anonymous");
        t.cli(&format!("run --name {container} {name} cat /data/file")).ok().prints("from the image");
        let anonymous = t.inspect(&container)["Mounts"][0]["Name"].as_str().unwrap().to_string();
        assert_eq!(anonymous.len(), 64);
        t.cli(&format!("rm -v {container}")).ok();
        for volume in [volume, nocopy] {
            t.api().delete(&format!("/volumes/{volume}"));
        }
        t.cli(&format!("rmi {name}")).ok();
    });
}

#[test]
fn volumes_come_from_another_container() {
    both(|t| {
        let (first, volume) = (t.name("first"), t.name("volume"));
        t.cli(&format!("run --name {first} -v {volume}:/data busybox sh -c 'echo x > /data/file'")).ok();
        t.cli(&format!("run --rm --volumes-from {first} busybox cat /data/file")).ok().prints("x");
        t.cli(&format!("run --rm --volumes-from {first}:ro busybox touch /data/y")).fails_with(1);
        t.cli("run --rm --volumes-from no-such-container busybox true").fails_with(125).complains("no-such-container");
        t.cli(&format!("rm {first}")).ok();
        t.api().delete(&format!("/volumes/{volume}"));
    });
}

#[test]
fn mounts_below_mounts_are_made_in_order() {
    both(|t| {
        let (outer, inner) = (t.host_dir(), t.host_dir());
        outer.write("o", "outer");
        inner.write("i", "inner");
        let options = format!("-v {}:/a/b -v {}:/a --tmpfs /a/t", inner.path, outer.path);
        t.cli(&format!("run --rm {options} busybox sh -c 'cat /a/o /a/b/i; touch /a/t/x'")).ok().prints("outerinner");
    });
}

#[test]
fn a_tmpfs_volume_is_one_mount_that_containers_share_as_long_as_one_runs() {
    both(|t| {
        let (volume, first, second) = (t.name("memory"), t.name("first"), t.name("second"));
        let options = json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=1770"});
        t.api().post_json("/volumes/create", &json!({"Name": volume, "DriverOpts": options})).status(201);
        let run = |name: &str| t.cli(&format!("run -d --name {name} -v {volume}:/data busybox sleep 1000")).ok();
        run(&first);
        t.cli(&format!("exec {first} sh -c 'echo shared > /data/file; stat -c %a /data'")).ok().prints("1770");
        run(&second);
        t.cli(&format!("exec {second} cat /data/file")).ok().prints("shared");
        t.cli(&format!("exec {second} dd if=/dev/zero of=/data/big bs=1M count=2"))
            .fails_with(1)
            .complains("No space left");
        t.cli(&format!("rm -f {first}")).ok();
        t.cli(&format!("exec {second} cat /data/file")).ok().prints("shared");
        t.cli(&format!("rm -f {second}")).ok();
        t.cli(&format!("run --rm -v {volume}:/data busybox ls /data")).ok().prints("");
        t.api().delete(&format!("/volumes/{volume}")).status(204);
    });
}

#[test]
fn a_tmpfs_volume_stays_mounted_while_the_engine_is_away() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "kills the engine");
        }
        let mount = "--mount type=volume,source=memory,target=/data,volume-opt=type=tmpfs,volume-opt=device=tmpfs";
        t.cli(&format!("run -d --name stays {mount} busybox sh -c 'echo kept > /data/file; sleep 1000'")).ok();
        t.cli(&format!("run -d --name goes {mount} busybox sleep 1000")).ok();
        t.engine.kill();
        t.engine.start_again();
        t.cli("rm -f goes").ok();
        t.cli("run --rm -v memory:/data busybox cat /data/file").ok().prints("kept");
        t.cli("rm -f stays").ok();
        t.cli("run --rm -v memory:/data busybox ls /data").ok().prints("");
    });
}

#[test]
fn a_volume_that_cannot_be_mounted_says_why() {
    both(|t| {
        let volume = t.name("wrong");
        let mount = format!("type=volume,source={volume},target=/data,volume-opt=type=tmpfs,volume-opt=device=tmpfs");
        let refused = t.cli(&format!("run --rm --mount {mount},volume-opt=o=nonsense=1 busybox true")).fails_with(125);
        refused.complains("failed to mount local volume: mount tmpfs:").complains("data: nonsense=1: invalid argument");
        t.api().delete(&format!("/volumes/{volume}"));
    });
}

#[test]
fn a_volume_that_was_given_by_name_outlives_those_who_had_it() {
    both(|t| {
        let made = t.api().post_json("/volumes/create", &json!({})).status(201).json();
        let volume = made["Name"].as_str().unwrap();
        t.cli(&format!("run --rm -v {volume}:/data busybox sh -c 'echo kept > /data/file'")).ok();
        let name = t.name("user");
        t.cli(&format!("create --name {name} -v {volume}:/data busybox")).ok();
        t.cli(&format!("run --rm --volumes-from {name} busybox cat /data/file")).ok().prints("kept");
        t.cli(&format!("rm -v {name}")).ok();
        t.cli(&format!("run --rm -v {volume}:/data busybox cat /data/file")).ok().prints("kept");
        t.api().delete(&format!("/volumes/{volume}")).status(204);
    });
}
