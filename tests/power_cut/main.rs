//! What an engine finds after a power cut that lost what was not flushed. Each boot of the guest runs this once: it checks
//! what the boots before were told, then works until the next cut. `power-cut DISK JOURNAL`; see
//! `cargo xtask guest power-cut`.
//!
//! What is acknowledged is printed before anything else is done; the machine outside keeps it as a journal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use hoist_tests::{Api, Entry, Image, Registry, demultiplex, eventually};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// How far something had come, by the last line of the journal about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Came {
    Asked,
    There,
    /// It ended, with this code.
    Ended(i64),
    Leaving,
    Gone,
}

#[derive(Default)]
struct Known {
    containers: BTreeMap<String, Came>,
    images: BTreeMap<String, Came>,
    /// Names that were pinned.
    pins: BTreeSet<String>,
    boots: u64,
    last: bool,
}

impl Known {
    fn parse(journal: &str) -> Self {
        let mut known = Self::default();
        for line in journal.trim_end_matches('\0').lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let (came, name) = match words[..] {
                ["boot", _] => {
                    known.boots += 1;
                    continue;
                }
                ["check" | "work"] => continue,
                ["last"] => {
                    known.last = true;
                    continue;
                }
                ["make" | "load", name] => (Came::Asked, name),
                ["made" | "loaded", name] => (Came::There, name),
                ["ended", name, code] => (Came::Ended(code.parse().unwrap()), name),
                ["pinned", name] => {
                    known.pins.insert(name.into());
                    continue;
                }
                ["remove" | "untag" | "prune", name] => (Came::Leaving, name),
                ["removed" | "untagged" | "pruned", name] => (Came::Gone, name),
                _ => panic!("no line of the journal: {line:?}"),
            };
            let of = if name.contains(':') { &mut known.images } else { &mut known.containers };
            of.insert(name.into(), came);
        }
        known
    }
}

/// An engine on the disk whose power is cut.
struct Place {
    api: Api,
    root: PathBuf,
    engine: Child,
}

impl Place {
    fn start(disk: &Path) -> Self {
        let (root, socket) = (disk.join("root"), PathBuf::from("/run/power.sock"));
        let mut command = Command::new(hoist_tests::binary().unwrap());
        command.args(["engine", "--run-dir", "/run/power", "--bridge", "power0", "--bip", "10.99.0.1/20"]);
        command.arg("--root").arg(&root).arg("-H").arg(format!("unix://{}", socket.display()));
        let mut engine = command.env("HOME", "/root").spawn().unwrap();
        let api = Api::unix(&socket);
        eventually("the engine starts", || {
            assert!(matches!(engine.try_wait(), Ok(None)), "the engine ended");
            api.try_request("GET", "/_ping", &[], b"").is_ok_and(|reply| reply.status == 200)
        });
        Self { api, root, engine }
    }

    fn create(&self, name: &str, image: &str, script: &str) {
        let body = json!({ "Image": image, "Cmd": ["sh", "-c", script] });
        self.api.post_json(&format!("/containers/create?name={name}"), &body).status(201);
    }

    /// Starts it, waits for its end, and returns its exit code.
    fn run(&self, name: &str) -> i64 {
        self.api.post(&format!("/containers/{name}/start")).status(204);
        self.api.post(&format!("/containers/{name}/wait")).status(200).json()["StatusCode"].as_i64().unwrap()
    }

    fn output(&self, name: &str) -> String {
        let logs = self.api.get(&format!("/containers/{name}/logs?stdout=1")).status(200);
        demultiplex(&logs.body).0
    }

    fn remove(&self, name: &str) {
        self.api.delete(&format!("/containers/{name}?force=1")).status(204);
    }

    /// IDs by name.
    fn containers(&self) -> BTreeMap<String, String> {
        let list = self.api.get("/containers/json?all=1").status(200).json();
        let text = |value: &Value| value.as_str().unwrap().to_string();
        let list = list.as_array().unwrap().iter();
        list.map(|one| (text(&one["Names"][0])[1..].to_string(), text(&one["Id"]))).collect()
    }

    fn has_image(&self, name: &str) -> bool {
        let status = self.api.get(&format!("/images/{name}/json")).status;
        assert!(status == 200 || status == 404, "image {name}: {status}");
        status == 200
    }

    fn load(&self, name: &str, stamp: &str) {
        let archive = image(stamp).docker_archive(&[name]);
        let headers = [("Content-Type", "application/x-tar")];
        let reply = self.api.request("POST", "/images/load?quiet=1", &headers, &archive).status(200);
        assert!(!reply.text().contains("errorDetail"), "loading {name}: {}", reply.text());
    }

    /// Pulls it from a registry that has it.
    fn pull(&self, name: &str) {
        let reply = self.api.post(&format!("/images/create?fromImage={name}")).status(200);
        assert!(!reply.text().contains("errorDetail"), "pulling {name}: {}", reply.text());
    }

    fn files(&self, directory: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.root.join(directory)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

fn image(stamp: &str) -> Image {
    let entries = [Entry::file("stamp", stamp), Entry::file("more", vec![b'x'; 200_000])];
    Image::busybox_with(&entries, json!({ "Labels": { "stamp": stamp } }))
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.engine.kill();
        let _ = self.engine.wait();
    }
}

fn main() {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [disk, journal] = &arguments[..] else { panic!("usage: power-cut DISK JOURNAL") };
    let known = Known::parse(&String::from_utf8(std::fs::read(journal).unwrap()).unwrap());
    println!("power: check");
    let place = Place::start(disk);
    let containers = check_containers(&place, &known);
    check_images(&place, &known);
    println!("{} containers, {} images known", known.containers.len(), known.images.len());
    if known.last {
        return check_nothing_stays(&place);
    }
    let mut random = StdRng::seed_from_u64(known.boots);
    println!("power: load busybox:latest");
    place.load("busybox:latest", "busybox:latest");
    println!("power: loaded busybox:latest");
    // Its disk is memory: what is pulled comes from elsewhere.
    let registry = Registry::serve_own(&[]);
    println!("power: work");
    std::thread::scope(|scope| {
        scope.spawn(|| work_with_images(&place, &registry, known.boots));
        work_with_containers(&place, known.boots, containers, &mut random);
    });
}

/// Checks every container that there is or should be, and returns the names of those that there are.
fn check_containers(place: &Place, known: &Known) -> Vec<String> {
    let mut listed = place.containers();
    for (name, came) in &known.containers {
        match came {
            Came::There | Came::Ended(_) => assert!(listed.contains_key(name), "{name} is lost ({came:?})"),
            Came::Gone => assert!(!listed.contains_key(name), "{name} was removed and is there again"),
            Came::Asked | Came::Leaving => {}
        }
    }
    let ids: BTreeSet<String> = listed.values().cloned().collect();
    eventually("only what is listed has a directory", || place.files("containers") == ids);
    eventually("what was removed is off the disk", || place.files("removed").is_empty());
    // A container that a check of an earlier boot made was never acknowledged.
    for name in listed.keys().filter(|name| name.starts_with("check-")) {
        place.remove(name);
    }
    listed.retain(|name, _| !name.starts_with("check-"));
    let mut unknown = 0;
    for name in listed.keys() {
        let came = known.containers.get(name).unwrap_or_else(|| panic!("nobody made {name}"));
        let state = place.api.get(&format!("/containers/{name}/json")).status(200).json()["State"].clone();
        match state["Status"].as_str().unwrap() {
            "created" => {}
            // 255 is said where the end was not on the disk yet.
            "exited" if state["ExitCode"] == 255 => unknown += 1,
            "exited" => {
                if let Came::Ended(code) = came {
                    assert_eq!(state["ExitCode"], *code, "{name}: {state}");
                }
            }
            _ => panic!("{name}: {state}"),
        }
        place.output(name);
    }
    println!("{} containers there, {unknown} of them ended unseen", listed.len());
    // Whole is what runs.
    for name in listed.keys().rev().take(3) {
        let code = place.run(name);
        let expected: i64 = name.rsplit('-').next().unwrap().parse().unwrap();
        assert_eq!(code, expected, "{name} started again");
        assert!(place.output(name).ends_with(&format!("out {name}\n")), "{name}: {}", place.output(name));
        println!("power: ended {name} {code}");
    }
    listed.into_keys().collect()
}

fn check_images(place: &Place, known: &Known) {
    for (number, (name, came)) in known.images.iter().rev().enumerate() {
        let there = place.has_image(name);
        match came {
            Came::There => {
                assert!(there, "{name} is lost");
                let own = place.api.get(&format!("/images/{name}/json")).json()["Hoist"].clone();
                assert!(own["LastUsed"].as_str().is_some_and(|at| at.starts_with("20")), "{name}: {own}");
                assert!(own["Pinned"] == true || !known.pins.contains(name), "{name} is not pinned any more");
            }
            Came::Gone => assert!(!there, "{name} was removed and is there again"),
            _ => {}
        }
        // The newest, which a cut came closest to.
        if there && number < 4 {
            let check = format!("check-{number}");
            place.create(&check, name, "cat /stamp; wc -c < /more");
            assert_eq!(place.run(&check), 0, "{name}");
            assert_eq!(place.output(&check), format!("{name}200000\n"));
            place.remove(&check);
        }
    }
    let verified = place.api.post("/hoist/images/verify").status(200).text();
    assert!(!verified.contains("errorDetail"), "files of images are not as they came: {verified}");
    eventually("no half-made image stays", || {
        place.files("image/tmp").is_empty() && place.files("image/trash").is_empty()
    });
}

/// After the last cut: all is removed, and then nothing is left.
fn check_nothing_stays(place: &Place) {
    for name in place.containers().keys() {
        place.remove(name);
    }
    let list = place.api.get("/images/json").status(200).json();
    for image in list.as_array().unwrap() {
        place.api.delete(&format!("/images/{}?force=1", image["Id"].as_str().unwrap())).status(200);
    }
    for directory in ["containers", "removed", "image/layers", "image/blobs/sha256", "image/tmp", "image/trash"] {
        eventually(directory, || place.files(directory).is_empty());
    }
}

fn work_with_containers(place: &Place, boot: u64, mut there: Vec<String>, random: &mut StdRng) {
    for number in 0.. {
        let choice = random.random_range(0..5);
        if choice == 0 && !there.is_empty() {
            let name = there.swap_remove(random.random_range(0..there.len()));
            println!("power: remove {name}");
            place.remove(&name);
            println!("power: removed {name}");
            continue;
        }
        let code = random.random_range(0..100);
        let name = format!("c{boot:03}-{number:04}-{code}");
        println!("power: make {name}");
        place.create(&name, "busybox", &format!("echo out {name}; exit {code}"));
        println!("power: made {name}");
        if choice > 1 {
            let code = place.run(&name);
            println!("power: ended {name} {code}");
        }
        there.push(name);
    }
}

fn work_with_images(place: &Place, registry: &Registry, boot: u64) {
    let mut there = Vec::new();
    for number in 0.. {
        let repository = format!("i{boot:03}-{number:04}");
        let is_pulled = number % 2 == 1;
        let name = format!("{}:latest", if is_pulled { registry.name(&repository) } else { repository.clone() });
        if is_pulled {
            registry.push(&repository, &["latest"], &image(&name));
        }
        println!("power: load {name}");
        if is_pulled {
            place.pull(&name);
        } else {
            place.load(&name, &name);
        }
        println!("power: loaded {name}");
        there.push(name.clone());
        if number % 4 == 0 {
            place.api.post(&format!("/hoist/images/{name}/pin")).status(200);
            println!("power: pinned {name}");
        }
        match number % 6 {
            2 => {
                let name = there.remove(0);
                println!("power: untag {name}");
                place.api.delete(&format!("/images/{name}?force=1")).status(200);
                println!("power: untagged {name}");
            }
            // By its label, so that nothing else goes; it was not pinned.
            5 => {
                there.pop();
                println!("power: prune {name}");
                let filters = json!({ "dangling": ["false"], "label": [format!("stamp={name}")] }).to_string();
                let filters = filters.replace('"', "%22").replace('{', "%7B").replace('}', "%7D").replace('=', "%3D");
                let pruned = place.api.post(&format!("/images/prune?filters={filters}")).status(200).json();
                assert!(pruned["ImagesDeleted"].is_array(), "{pruned}");
                println!("power: pruned {name}");
            }
            _ => {}
        }
    }
}
