//! Images and archives that are made to harm: refused, or unpacked without harm.

use hoist_tests::{Bed, Entry, Image, Layer, both, engine, skip};
use serde_json::{Value, json};

/// Loads a hostile image. Whether the engine took it: refusing is as safe as unpacking it right.
pub(crate) fn try_load(t: &Bed, name: &str, layers: &[&[Entry]], config: Value) -> bool {
    let mut image = Image::busybox();
    image.layers.extend(layers.iter().map(|entries| Layer::new(entries)));
    image.config = json!({ "Cmd": ["sh"] });
    for (key, value) in config.as_object().into_iter().flatten() {
        image.config[key] = value.clone();
    }
    let headers = [("Content-Type", "application/x-tar")];
    let reply = t.api().request("POST", "/images/load?quiet=1", &headers, &image.docker_archive(&[name]));
    reply.status == 200 && !reply.text().contains("errorDetail")
}

#[test]
fn cve_2025_23266_the_environment_of_the_image_reaches_no_program_of_the_host() {
    both(|t| {
        let image = format!("{}:v1", t.name("preload"));
        let config = json!({ "Env": ["LD_PRELOAD=/no/such.so", "LD_LIBRARY_PATH=/", "GCONV_PATH=/", "PATH=/bin", "GODEBUG=x=1"] });
        assert!(try_load(t, &image, &[], config));
        t.cli(&format!("run --rm {image} true")).ok();
        t.cli(&format!("run --rm --init {image} true")).ok();
        t.cli(&format!("rmi -f {image}")).ok();
    });
}

#[test]
fn cve_2026_47262_a_huge_passwd_or_group_is_a_bounded_error() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "looks at the memory of the engine");
        }
        let big = "x:x:1:1::/:/bin/sh\n".repeat(4_000_000);
        for file in ["etc/passwd", "etc/group"] {
            let image = format!("{}:v1", t.name("huge"));
            if !try_load(t, &image, &[&[Entry::file(file, big.clone())]], json!({})) {
                continue;
            }
            let before = t.engine.peak_kb().unwrap();
            let ran = t.cli(&format!("run --rm -u somebody:some {image} true"));
            assert_ne!(ran.code, 0, "{ran}");
            assert!(
                t.engine.peak_kb().unwrap() < before + 64_000,
                "{before} kB before, {} kB after",
                t.engine.peak_kb().unwrap()
            );
            t.cli(&format!("rmi -f {image}")).ok();
        }
    });
}

#[test]
fn cve_2024_9676_a_passwd_that_is_a_link_or_a_pipe_neither_hangs_nor_reads_the_host() {
    both(|t| {
        let dir = t.host_dir();
        dir.write("passwd", "intruder:x:0:0::/:/bin/sh\n");
        let host_file = format!("{}/passwd", dir.path);
        for (number, entry) in [
            Entry::symlink("etc/passwd", &host_file),
            Entry::symlink("etc/passwd", &format!("{}{}", "../".repeat(10), &host_file[1..])),
            Entry::fifo("etc/passwd"),
            Entry::symlink("etc/passwd", "/dev/zero"),
            Entry::directory("etc/passwd/"),
        ]
        .into_iter()
        .enumerate()
        {
            // runc waits for a writer of the pipe, and reads /dev/zero while there is memory.
            if (2..=3).contains(&number) && !t.engine.is_own() {
                continue;
            }
            let image = format!("{}:v{number}", t.name("passwd"));
            if !try_load(t, &image, &[&[Entry::file("etc/.wh.passwd", "")], &[entry]], json!({})) {
                continue;
            }
            t.cli(&format!("run --rm -u intruder {image} id")).fails();
            t.cli(&format!("rmi -f {image}")).ok();
        }
    });
}

#[test]
fn cve_2026_46680_a_user_number_that_does_not_fit_is_refused() {
    both(|t| {
        for user in ["4294967296", "-1", "99999999999999999999", "0:4294967296", "2147483648"] {
            let ran = t.cli(&format!("run --rm --user={user} busybox id -u"));
            assert!(ran.code != 0, "{user}: {ran}");
        }
        t.cli("run --rm -u 0000001000 busybox id -u").ok().prints("1000");
    });
}

#[test]
fn cve_2022_23648_a_volume_path_with_dots_stays_inside_the_image() {
    both(|t| {
        let dir = t.host_dir();
        dir.write("secret", "of the host");
        for path in
            [format!("/../../../../../../..{}", dir.path), "/up/../../etc".to_string(), format!("/link{}", dir.path)]
        {
            let image = format!("{}:v1", t.name("volume"));
            let entries = [Entry::symlink("link", "/")];
            if !try_load(t, &image, &[&entries], json!({ "Volumes": { &path: {} } })) {
                continue;
            }
            let ran = t.cli(&format!("run --rm {image} sh -c 'cat {}/secret /link{}/secret'", dir.path, dir.path));
            assert!(!ran.stdout.contains("of the host"), "{ran}");
            t.cli(&format!("rmi -f {image}")).ok();
        }
    });
}

#[test]
fn evil_archives_write_nothing_outside_and_no_half_image_stays() {
    engine(|t| {
        let dir = t.host_dir();
        dir.write("sentinel", "untouched");
        let (outside, up) = (format!("{}/written", dir.path), "../".repeat(12));
        let relative = format!("{up}{}", &outside[1..]);
        let corpus: Vec<(&str, Vec<Entry>)> = vec![
            ("dots", vec![Entry::file(&relative, "x")]),
            ("absolute", vec![Entry::file(&outside, "x")]),
            ("through a link", vec![Entry::symlink("l", &dir.path), Entry::file("l/written", "x")]),
            (
                "through a relative link",
                vec![Entry::symlink("l", &format!("{up}{}", &dir.path[1..])), Entry::file("l/written", "x")],
            ),
            (
                "hard link outside",
                vec![Entry::hard_link("h", &format!("{}/sentinel", dir.path)), Entry::file("h", "broken")],
            ),
            (
                "hard link by dots",
                vec![Entry::hard_link("h", &format!("{up}{}/sentinel", &dir.path[1..])), Entry::file("h", "x")],
            ),
            (
                "link replaced by file",
                vec![Entry::symlink("s", &format!("{}/sentinel", dir.path)), Entry::file("s", "x")],
            ),
            (
                "hard link to a link",
                vec![Entry::symlink("s", &dir.path), Entry::hard_link("h", "s"), Entry::file("h/written", "x")],
            ),
            ("whiteout by dots", vec![Entry::file(&format!("{up}{}/.wh.sentinel", &dir.path[1..]), "")]),
            ("whiteout through a link", vec![Entry::symlink("l", &dir.path), Entry::file("l/.wh.sentinel", "")]),
            ("opaque through a link", vec![Entry::symlink("l", &dir.path), Entry::file("l/.wh..wh..opq", "")]),
            ("whiteout of dots", vec![Entry::file("a/.wh...", "")]),
            ("whiteout of the root", vec![Entry::file(".wh..", ""), Entry::file(".wh.", "")]),
            ("root is a file", vec![Entry::file("./", "x"), Entry::symlink(".", &dir.path)]),
            ("directory over a link", vec![Entry::symlink("d", &dir.path), Entry::directory("d/").mode(0o777)]),
        ];
        for (what, entries) in corpus {
            let name = format!("{}:v1", t.name("evil"));
            let taken = try_load(t, &name, &[&entries], json!({}));
            println!("{what}: {}", if taken { "taken" } else { "refused" });
            assert_eq!(dir.read("sentinel"), "untouched", "{what}");
            let names: Vec<_> =
                std::fs::read_dir(dir.ours()).unwrap().flatten().map(|entry| entry.file_name()).collect();
            assert_eq!(names, ["sentinel"], "{what}");
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(dir.ours()).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o755, "{what}");
            let status = t.api().get(&format!("/images/{name}/json")).status;
            assert_eq!(status, if taken { 200 } else { 404 }, "{what}");
            if taken {
                t.api().delete(&format!("/images/{name}?force=1")).status(200);
            }
        }
        t.api().get("/_ping").status(200);
    });
}

#[test]
fn a_decompression_bomb_is_stopped_or_bounded() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "looks at the memory of the engine");
        }
        // 300 MB of zeros in 300 kB.
        let layer = Layer::new(&[Entry::file("zeros", vec![0; 300_000_000])]);
        assert!(layer.blob.len() < 4_000_000);
        let mut image = Image::busybox();
        image.layers.push(layer);
        let before = t.engine.peak_kb().unwrap();
        let headers = [("Content-Type", "application/x-tar")];
        t.api().request("POST", "/images/load?quiet=1", &headers, &image.docker_archive(&["bomb:v1"]));
        assert!(
            t.engine.peak_kb().unwrap() < before + 100_000,
            "{before} kB before, {} kB after",
            t.engine.peak_kb().unwrap()
        );
        t.api().get("/_ping").status(200);
    });
}
