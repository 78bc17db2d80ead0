//! Many containers at once.

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::{Compression, GzBuilder};
use hoist_tests::{Bed, Cli, Engine, Image, Layer, engine, skip};
use serde_json::json;
use sha2::{Digest as _, Sha256};

fn many(t: &Bed) -> usize {
    std::env::var("HOIST_TEST_MANY").ok().and_then(|many| many.parse().ok()).unwrap_or(if t.engine.is_own() {
        500
    } else {
        20
    })
}

#[test]
fn with_five_hundred_running_the_next_is_as_fast_as_the_first() {
    engine(|t| {
        let many = many(t);
        if many < 100 {
            skip!("own-engine", "too slow on a peer");
        }
        // More than a network of the usual size for a test has addresses.
        let wide = Engine::start_own(&["--bip".into(), "10.62.0.1/20".into()]);
        let t = Bed::bare(Cli::Docker, wide);
        t.load("busybox:latest", &Image::busybox());
        let api = t.api();
        let body = json!({ "Image": "busybox", "Cmd": ["sleep", "100000"], "StopTimeout": 0 });
        let start_one = |name: &str| {
            let begin = Instant::now();
            api.post_json(&format!("/containers/create?name={name}"), &body).status(201);
            api.post(&format!("/containers/{name}/start")).status(204);
            begin.elapsed()
        };
        let few: Duration = (0..20).map(|number| start_one(&format!("few{number}"))).min().unwrap();
        for number in 20..many {
            start_one(&format!("few{number}"));
        }
        let lots: Duration = (0..20).map(|number| start_one(&format!("lots{number}"))).min().unwrap();
        println!("start: {few:?} with none running, {lots:?} with {many}");
        assert!(lots < few * 3 + Duration::from_millis(5));

        let list = api.get("/containers/json").status(200).json();
        assert_eq!(list.as_array().unwrap().len(), many + 20);
        let begin = Instant::now();
        t.inspect("few7");
        assert!(begin.elapsed() < Duration::from_millis(100));
        t.cli("exec few7 true").ok();
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let api = api.clone();
                std::thread::spawn(move || {
                    for number in (worker..many).step_by(4) {
                        api.delete(&format!("/containers/few{number}?force=1")).status(204);
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        for number in 0..20 {
            api.delete(&format!("/containers/lots{number}?force=1")).status(204);
        }
    });
}

/// A layer of so many empty files, whose tar is nowhere whole: 512 bytes a file.
fn layer_of_empty_files(count: usize) -> Layer {
    let mut packed = GzBuilder::new().write(Vec::new(), Compression::fast());
    let mut hasher = Sha256::new();
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    for number in 0..count {
        header.set_path(format!("many/{:03}/{number}", number / 1000)).unwrap();
        header.set_cksum();
        hasher.update(header.as_bytes());
        packed.write_all(header.as_bytes()).unwrap();
    }
    hasher.update([0; 1024]);
    packed.write_all(&[0; 1024]).unwrap();
    let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Layer { blob: packed.finish().unwrap(), diff_id: format!("sha256:{digest}") }
}

#[test]
fn a_million_tiny_files_are_unpacked_in_little_memory() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "looks at the engine's memory");
        }
        let mut image = Image::busybox();
        image.layers.push(layer_of_empty_files(1_000_000));
        let before = t.engine.peak_kb().unwrap();
        t.load("million:latest", &image);
        let after = t.engine.peak_kb().unwrap();
        assert!(after < before + 64_000, "{before} kB before, {after} kB after");
        t.cli("run --rm million sh -c 'ls /many | wc -l; ls /many/999 | wc -l'").ok().prints("1000\n1000");
        t.cli("rmi million").ok();
    });
}
