//! Images that try to reach the host by way of links and replaced files, and ill-meant mounts.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use hoist_runtime::spawner::Spawner;
use oci_spec::runtime::Mount;

use super::Test;
use super::container::Container;

pub(crate) const TESTS: &[Test] = &[
    ("directories_of_the_image_that_are_links_touch_nothing_on_the_host", linked_directories),
    ("proc_that_is_a_link_refuses_to_start", linked_proc),
    ("mounts_come_with_their_options_in_order", mounts),
    ("mount_points_are_made_inside_the_root", mount_points),
    ("mounts_that_cannot_be_made_say_which_and_why", mount_errors),
    ("masked_and_read_only_paths_hold_against_a_replaced_null_device", masks),
    ("a_read_only_root_is_read_only_and_mounts_in_it_are_not", read_only_root),
    ("mounts_of_the_container_stay_out_of_the_hosts_table", mount_table),
    ("a_console_that_is_a_link_is_refused", linked_console),
    ("a_fifo_or_a_link_as_passwd_does_not_hang_the_start", hostile_passwd),
    ("sixty_layers_and_very_long_paths_make_one_root", many_layers),
    ("a_plain_directory_can_be_the_root", directory_root),
];

fn mount(destination: &str, kind: &str, source: &Path, options: &[&str]) -> Mount {
    let json = serde_json::json!({"destination": destination, "type": kind, "source": source, "options": options});
    serde_json::from_value(json).unwrap()
}

fn add(container: &mut Container, mount: Mount) {
    container.launch.spec.mounts_mut().as_mut().unwrap().push(mount);
}

/// Every file below, with what a change would change.
fn tree(path: &Path) -> BTreeMap<PathBuf, (u32, u64, i64)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![path.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            if metadata.is_dir() {
                pending.push(entry.path());
            }
            found.insert(entry.path(), (metadata.mode(), metadata.len(), metadata.mtime_nsec()));
        }
    }
    found
}

fn linked_directories(spawner: &Spawner) {
    for (name, up) in [("dev", ""), ("dev", "../../../../../../.."), ("sys", ""), ("etc", "../../../../../../..")] {
        let mut container = Container::new(&["/bin/busybox", "true"]);
        let outside = container.directory.join("outside");
        for sub in ["", "pts", "shm", "mqueue", "fs", "fs/cgroup"] {
            std::fs::create_dir_all(outside.join(sub)).unwrap();
        }
        for file in ["null", "hosts", "console", "ptmx"] {
            std::fs::write(outside.join(file), "sentinel").unwrap();
        }
        let _ = std::fs::remove_dir_all(container.lower(name));
        symlink(format!("{up}{}", outside.display()), container.lower(name)).unwrap();
        let source = container.directory.join("source");
        std::fs::write(&source, "x").unwrap();
        add(&mut container, mount("/etc/hosts", "bind", &source, &["bind"]));
        let before = tree(&outside);
        let dev = tree(Path::new("/dev"));
        // Whether it starts does not matter: what it touches does.
        let _ = container.output(spawner).1;
        assert_eq!(tree(&outside), before, "{name} {up}");
        assert_eq!(tree(Path::new("/dev")).keys().collect::<Vec<_>>(), dev.keys().collect::<Vec<_>>());
        container.assert_nothing_left();
    }
}

fn linked_proc(spawner: &Spawner) {
    for target in ["/etc", "../../../../tmp", "tmp"] {
        let container = Container::new(&["true"]);
        std::fs::remove_dir(container.lower("proc")).unwrap();
        symlink(target, container.lower("proc")).unwrap();
        let message = container.failure(spawner).message;
        let expected =
            "error mounting \"proc\" to rootfs at \"/proc\": filesystem \"proc\" must be mounted on ordinary directory";
        assert!(message.contains(expected), "{message}");
        container.assert_nothing_left();
    }
}

fn mounts(spawner: &Spawner) {
    let script = "for m in /t /b /r /f /nested/in; do grep \" $m \" /proc/self/mounts | cut -d' ' -f2-4; done; cat /f; \
                  cat /b/file; touch /r/x 2>&1; stat -c %a /t; ls /r/sub";
    let mut container = Container::new(&["sh", "-c", script]);
    symlink("busybox", container.lower("bin/cut")).unwrap();
    let source = container.directory.join("source");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    std::fs::write(source.join("file"), "content\n").unwrap();
    add(&mut container, mount("/t", "tmpfs", Path::new("tmpfs"), &["noexec", "nosuid", "size=64k", "mode=1770"]));
    add(&mut container, mount("/b", "bind", &source, &["rbind", "rprivate", "nodev"]));
    add(&mut container, mount("/r", "bind", &source, &["rbind", "ro"]));
    add(&mut container, mount("/f", "bind", &source.join("file"), &["bind", "ro"]));
    add(&mut container, mount("/nested", "tmpfs", Path::new("tmpfs"), &[]));
    add(&mut container, mount("/nested/in", "bind", &source, &["bind"]));
    let text = container.stdout_any(spawner);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("/t tmpfs rw,nosuid,noexec,relatime,size=64k,mode=1770"), "{text}");
    assert!(lines[1].starts_with("/b ") && lines[1].contains("rw,nodev"), "{text}");
    assert!(lines[2].starts_with("/r ") && lines[2].contains(" ro,"), "{text}");
    assert!(lines[3].starts_with("/f ") && lines[3].contains(" ro,"), "{text}");
    assert!(lines[4].starts_with("/nested/in "), "{text}");
    assert_eq!(lines[5..], ["content", "content", "touch: /r/x: Read-only file system", "1770"]);
}

fn mount_points(spawner: &Spawner) {
    let mut container = Container::new(&["sh", "-c", "cat /run/deep/file /var/run/other"]);
    std::fs::create_dir_all(container.lower("var")).unwrap();
    // As in Debian, and its target is not there.
    symlink("/newrun", container.lower("var/run")).unwrap();
    let source = container.directory.join("source");
    std::fs::write(&source, "x\n").unwrap();
    add(&mut container, mount("/run/deep/file", "bind", &source, &["bind"]));
    add(&mut container, mount("/var/run/other", "bind", &source, &["bind"]));
    assert_eq!(container.stdout(spawner), "x\nx\n");
    assert!(!Path::new("/newrun").exists());
    assert!(container.directory.join("upper/newrun/other").exists());
}

fn mount_errors(spawner: &Spawner) {
    let check = |mount: Mount, expected: &str| {
        let mut container = Container::new(&["true"]);
        add(&mut container, mount);
        let message = container.failure(spawner).message;
        assert!(message.contains(expected), "{message}\n{expected}");
        container.assert_nothing_left();
    };
    check(
        mount("/x", "bind", Path::new("/does/not/exist"), &["bind"]),
        "error mounting \"/does/not/exist\" to rootfs at \"/x\": open /does/not/exist: no such file or directory",
    );
    check(
        mount("/etc/passwd", "bind", Path::new("/etc"), &["bind"]),
        "to rootfs at \"/etc/passwd\": create mountpoint",
    );
    check(mount("/etc/passwd", "bind", Path::new("/etc"), &["bind"]), "not a directory");
    check(mount("/x", "nosuchfs", Path::new("x"), &[]), "error mounting \"x\" to rootfs at \"/x\": no such device");
    check(mount("/x", "tmpfs", Path::new("tmpfs"), &["nonsense=1"]), "option \"nonsense\": invalid argument");
    check(mount("/x", "bind", Path::new("/etc"), &["bind", "nonsense"]), "option \"nonsense\" has no meaning");
    check(mount("/proc/version", "bind", Path::new("/etc/passwd"), &["bind"]), "is inside /proc");
    check(mount("/proc", "bind", Path::new("/etc"), &["bind"]), "cannot be mounted because it is not of type proc");
}

fn masks(spawner: &Spawner) {
    let script = "wc -c < /proc/interrupts; ls /sys/firmware | wc -l; echo evil > /proc/interrupts; \
                  echo x > /proc/sys/kernel/core_pattern; echo x > /proc/sysrq-trigger; exit 0";
    // The image brings a /dev of its own, in which null is a link to something worth writing to.
    let mut container = Container::new(&["sh", "-c", script]);
    container.launch.spec.mounts_mut().as_mut().unwrap().retain(|mount| !mount.destination().starts_with("/dev"));
    std::fs::create_dir_all(container.lower("dev")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", container.lower("dev/null")).unwrap();
    let before = std::fs::read("/proc/sys/kernel/core_pattern").unwrap();
    assert_eq!(container.stdout(spawner), "0\n0\n");
    assert_eq!(std::fs::read("/proc/sys/kernel/core_pattern").unwrap(), before);
}

fn read_only_root(spawner: &Spawner) {
    let mut container = Container::new(&["sh", "-c", "touch /x 2>&1; touch /dev/shm/y && echo ok"]);
    container.launch.spec.root_mut().as_mut().unwrap().set_readonly(Some(true));
    assert_eq!(container.stdout(spawner), "touch: /x: Read-only file system\nok\n");
}

fn mount_table(spawner: &Spawner) {
    let container = Container::new(&["sh", "-c", "echo ready; exec sleep 100"]);
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut running = container.run(spawner);
    running.read_until("ready");
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    let pid = running.started_pid();
    let inside = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert!(!inside.contains("/dev/vda / / "), "the host's root is still there");
    assert_eq!(inside.lines().filter(|line| line.contains(" / / rw")).count(), 1, "{inside}");
    running.kill();
}

fn linked_console(spawner: &Spawner) {
    let mut container = Container::new(&["true"]);
    container.launch.stdio.tty = true;
    let host_file = container.directory.join("host-file");
    std::fs::write(&host_file, "sentinel").unwrap();
    let source = container.directory.join("dev");
    std::fs::create_dir_all(source.join("pts")).unwrap();
    symlink(&host_file, source.join("console")).unwrap();
    let mounts = container.launch.spec.mounts_mut().as_mut().unwrap();
    let position = mounts.iter().position(|mount| mount.destination() == Path::new("/dev")).unwrap();
    mounts[position] = mount("/dev", "bind", &source, &["bind"]);
    let message = container.failure(spawner).message;
    assert!(message.contains("/dev/console"), "{message}");
    assert_eq!(std::fs::read_to_string(&host_file).unwrap(), "sentinel");
}

fn hostile_passwd(spawner: &Spawner) {
    for kind in ["fifo", "link", "zero", "directory"] {
        let container = Container::new(&["sh", "-c", "echo $HOME"]);
        let passwd = container.lower("etc/passwd");
        std::fs::remove_file(&passwd).unwrap();
        match kind {
            "fifo" => {
                rustix::fs::mknodat(rustix::fs::CWD, &passwd, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap()
            }
            "link" => symlink("/proc/self/fd/0", &passwd).unwrap(),
            "zero" => symlink("/dev/zero", &passwd).unwrap(),
            _ => std::fs::create_dir(&passwd).unwrap(),
        }
        assert_eq!(container.stdout(spawner), "/\n", "{kind}");
    }
}

fn many_layers(spawner: &Spawner) {
    let mut container = Container::new(&["sh", "-c", "cat /number; ls / | grep -c layer"]);
    let base = container.directory.join("x".repeat(200)).join("y".repeat(200));
    let mut layers: Vec<PathBuf> = (0..60).map(|number| base.join(number.to_string())).collect();
    for (number, layer) in layers.iter().enumerate() {
        std::fs::create_dir_all(layer).unwrap();
        std::fs::write(layer.join("number"), format!("{number}\n")).unwrap();
        std::fs::write(layer.join(format!("layer{number}")), "").unwrap();
    }
    layers.push(container.directory.join("lower"));
    if let hoist_runtime::launch::Rootfs::Overlay { lower, .. } = &mut container.launch.rootfs {
        *lower = layers;
    }
    assert_eq!(container.stdout(spawner), "0\n60\n");
}

fn directory_root(spawner: &Spawner) {
    let mut container = Container::new(&["sh", "-c", "echo x > /made"]);
    container.launch.rootfs = hoist_runtime::launch::Rootfs::Directory(container.directory.join("lower"));
    container.stdout(spawner);
    assert_eq!(std::fs::read_to_string(container.lower("made")).unwrap(), "x\n");
    container.assert_nothing_left();
}
