//! The engine's disk: every byte of it has an owner, and a full one stops nothing but what needs room.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use hoist_tests::{Bed, Cli, Engine, Entry, Image, Registry, engine, eventually, hoist, skip};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::stalling::Stalling;

fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    rand::Rng::fill(&mut rand::rng(), bytes.as_mut_slice());
    bytes
}

fn du(path: &Path) -> u64 {
    let told = Command::new("du").args(["-sx", "--block-size=1"]).arg(path).output().unwrap();
    String::from_utf8(told.stdout).unwrap().split('\t').next().unwrap().parse().unwrap()
}

#[test]
fn every_byte_below_the_root_is_told_with_its_owner() {
    hoist(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "looks below the root of the engine");
        }
        let small: Vec<Entry> = (0..3000).map(|n| Entry::file(&format!("srv/{n}"), "x")).collect();
        t.load("small:v1", &Image::busybox_with(&small, json!({})));
        let linked = [Entry::file("one", random_bytes(3_000_000)), Entry::hard_link("two", "one")];
        t.load("linked:v1", &Image::busybox_with(&linked, json!({})));
        t.load("zeros:v1", &Image::busybox_with(&[Entry::file("zeros", vec![0; 5_000_000])], json!({})));
        let script = "for i in $(seq 500); do echo $i > /v/$i; done; truncate -s 1G /sparse; seq 100000; \
            head -c 2000000 /dev/urandom > /own; ln /own /own2; exec sleep 1000";
        t.args(&["run", "-d", "--name", "writes", "-v", "data:/v", "small:v1", "sh", "-c", script]).ok();
        eventually("the files are written", || t.cli("exec writes ls -l /own2").stdout.contains("2000000"));
        t.cli("create --name rests busybox").ok();
        let image = Image::busybox_with(&[Entry::file("big", random_bytes(8_000_000))], json!({}));
        let registry = Stalling::serve(&image, 4_000_000);
        let pull = t.spawn(&format!("pull {}", registry.name("x:v1")));
        registry.wait_until_stalled();
        let told = |t: &Bed| t.api().get("/hoist/system/disk").status(200).json();
        let size = |told: &Value, what: &str| -> u64 {
            let mut parts = told["Parts"].as_array().unwrap().iter();
            parts.find(|part| part["What"] == what).map_or(0, |part| part["Size"].as_u64().unwrap())
        };
        const COMING: &str = "downloads and work in progress";
        eventually("a part of the layer is here", || size(&told(t), COMING) > 1_000_000);
        pull.signal(Signal::INT);
        let root = t.engine.directory().join("d");
        eventually("what is told is what du sees", || {
            let (told, seen) = (told(t)["Total"].as_u64().unwrap(), du(&root));
            told.abs_diff(seen) * 100 <= seen
        });
        let told = told(t);
        let size = |what: &str| size(&told, what);
        assert!(size("image layers") > 3000 * 512 + 3_000_000 && size("containers") > 2_000_000, "{told}");
        assert!(size("volumes") > 500 * 512 && size("database") > 0, "{told}");
        assert!(size(COMING) > 1_000_000, "{told}");
        let verbose = t.cli("system df -v").ok();
        verbose.clone().says(&format!("Disk space below {}: ", root.display())).matches(r"^image layers +[0-9.]+MB$");
        t.cli("system df").ok().matches(&format!(r"^On disk below {}: [0-9.]+MB \(.*\)$", root.display()));
    });
}

/// A root on a disk of its own, and what fills it.
struct Full {
    t: Bed,
    fill: PathBuf,
}

impl Full {
    /// To the last block: what was free is taken, in ever smaller pieces.
    #[track_caller]
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(&self.fill).unwrap();
        for size in [1 << 20, 1 << 16, 1 << 12, 512, 1] {
            while file.write_all(&vec![0xa5; size]).and_then(|()| file.sync_data()).is_ok() {}
        }
        // And to the last file that has a block.
        let mut number = 0;
        while std::fs::write(self.fill.with_extension(number.to_string()), "x").is_ok() && number < 1000 {
            number += 1;
        }
    }

    fn make_room(&self) {
        for entry in std::fs::read_dir(self.fill.parent().unwrap()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("fill") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    #[track_caller]
    fn containers(&self) -> usize {
        self.t.api().get("/containers/json?all=1").status(200).json().as_array().unwrap().len()
    }

    #[track_caller]
    fn files(&self, directory: &str) -> usize {
        std::fs::read_dir(self.t.engine.directory().join("d").join(directory)).unwrap().count()
    }

    /// What needs room says which disk has none, and leaves nothing.
    #[track_caller]
    fn refuses(&self, registry: &Registry) {
        let disk = format!("(the disk of {} has ", self.t.engine.directory().join("d").display());
        let (containers, directories) = (self.containers(), self.files("containers"));
        self.t.cli("create busybox true").fails().complains("no space left on device").complains(&disk);
        self.t.cli("run --rm busybox true").fails_with(125).complains("no space left on device").complains(&disk);
        self.t.cli("run busybox true").fails_with(125).complains(&disk);
        self.t.cli("commit rests").fails().complains(&disk);
        self.t.cli(&format!("pull {}", registry.name("x:v1"))).fails().complains(&disk);
        let archive = Image::busybox_with(&[Entry::file("big", random_bytes(2_000_000))], json!({}));
        let headers = [("Content-Type", "application/x-tar")];
        let loaded =
            self.t.api().request("POST", "/images/load?quiet=1", &headers, &archive.docker_archive(&["big:latest"]));
        assert!(loaded.text().contains(&disk), "{} {}", loaded.status, loaded.text());
        let imported =
            self.t.api().request("POST", "/images/create?fromSrc=-&repo=imported", &headers, &random_tar(2_000_000));
        assert!(imported.text().contains(&disk), "{} {}", imported.status, imported.text());
        for name in ["big:latest", "imported:latest"] {
            self.t.api().get(&format!("/images/{name}/json")).status(404);
        }
        assert_eq!((self.containers(), self.files("containers")), (containers, directories));
        eventually("nothing half-made stays", || self.files("image/tmp") == 0);
    }

    fn state(&self, name: &str) -> Value {
        self.t.api().get(&format!("/containers/{name}/json")).status(200).json()["State"].clone()
    }
}

fn random_tar(bytes: usize) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", random_bytes(bytes).as_slice()).unwrap();
    tar.into_inner().unwrap()
}

fn a_full_disk_takes_no_more_and_gives_back(engine: Engine, registry: &Registry) {
    let fill = engine.directory().join("d/fill");
    let mut full = Full { t: Bed::bare(Cli::Hoist, engine), fill };
    let t = &full.t;
    t.load("busybox:latest", &Image::busybox());
    t.load("extra:v1", &Image::busybox_with(&[Entry::file("more", random_bytes(100_000))], json!({})));
    let script = |code: u8| format!("trap 'seq 20000; exit {code}' TERM; echo up; while :; do sleep 0.05; done");
    for (name, code) in [("stopped", 7), ("alone", 9)] {
        t.args(&["run", "-d", "--name", name, "busybox", "sh", "-c", &script(code)]).ok();
        eventually("the container is up", || t.cli(&format!("logs {name}")).stdout.contains("up"));
    }
    t.args(&["create", "--name", "rests", "-v", "data:/data", "busybox", "true"]).ok();
    full.fill();
    full.refuses(registry);
    let t = &full.t;
    // What runs goes on, can be looked into, and ends as it ends, whatever becomes of its log.
    t.cli("exec stopped echo inside").ok().prints("inside");
    t.cli("ps -a").ok().says("stopped").says("alone").says("rests");
    t.cli("stop stopped").ok();
    assert_eq!(full.state("stopped")["ExitCode"], 7);
    // One ends while no engine is there, and the next starts without room.
    let pid = full.state("alone")["Pid"].as_i64().unwrap();
    full.fill();
    full.t.engine.kill();
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::TERM).unwrap();
    eventually("the container ends", || !Path::new(&format!("/proc/{pid}")).exists());
    full.fill();
    full.t.engine.start_again();
    assert_eq!((&full.state("alone")["Status"], &full.state("alone")["ExitCode"]), (&json!("exited"), &json!(9)));
    full.t.engine.terminate();
    full.fill();
    full.t.engine.start_again();
    // Everything can be removed, each time with nothing free before.
    for line in ["rm stopped", "rmi extra:v1", "rm alone", "rm rests"] {
        full.fill();
        full.t.cli(line).ok();
    }
    full.fill();
    full.t.api().delete("/volumes/data").status(204);
    full.fill();
    full.t.cli("system prune -af --volumes").ok().says("busybox");
    assert_eq!((full.containers(), full.t.cli("images -q").ok().stdout.as_str()), (0, ""));
    full.make_room();
    full.t.load("busybox:latest", &Image::busybox());
    full.t.cli("run --rm busybox echo room").ok().prints("room");
    full.t.cli(&format!("pull {}", registry.name("x:v1"))).ok();
}

#[test]
fn an_engine_on_a_full_disk_starts_lists_stops_and_deletes() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "fills the disk of the engine");
        }
        let registry = Registry::serve_own(&[]);
        let image = Image::busybox_with(&[Entry::file("big", random_bytes(2_000_000))], json!({}));
        registry.push("x", &["v1"], &image);
        a_full_disk_takes_no_more_and_gives_back(Engine::start_on_small_disk(40), &registry);
        let Some(engine) = Engine::start_on_small_ext4(48) else { skip!("loop", "no disk can be made of a file") };
        a_full_disk_takes_no_more_and_gives_back(engine, &registry);
    });
}
