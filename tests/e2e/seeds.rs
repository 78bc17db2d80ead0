//! Two tutorials, command by command, as a reader types them: "Running Containers", and "Finding Images" to "Removing".
//!
//! What they build, push, search for or do with other tools is not here. Where they name an image, the registry of the
//! test has one that behaves alike.

use std::io::{Read, Write};
use std::net::TcpStream;

use hoist_tests::{Bed, Cli, Engine, Entry, Image, Registry, both, engine, eventually, skip};
use serde_json::json;

fn get(port: &str, path: &str) -> String {
    let fetch = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let mut page = String::new();
    eventually("the page comes", || {
        fetch().is_ok_and(|text| {
            page = text;
            page.contains("200 OK")
        })
    });
    page
}

fn alpine(version: &str) -> Image {
    Image::busybox_with(&[Entry::file("etc/alpine-release", version)], json!({ "Cmd": ["/bin/sh"] }))
}

/// An engine on which nothing else is, so that `ps -a` shows what the reader sees. None on a peer.
fn alone(cli: Cli, registry: &Registry) -> Option<Bed> {
    let bed =
        Bed::bare(cli, Engine::start(&["--registry-mirror".into(), format!("http://127.0.0.1:{}", registry.port)]));
    bed.engine.is_own().then_some(bed)
}

#[test]
fn running_containers_hello_world_is_run_listed_logged_inspected_and_removed() {
    both(|t| {
        let Some(registry) = Registry::start() else { skip!("registry", "no docker-registry in the test bed") };
        let Some(t) = alone(t.cli, &registry) else { skip!("own-engine", "the whole list of containers is looked at") };
        let hello = t.shell("docker run hello-world").ok();
        hello.matches(r"(?i)hello from \w+!");
        let list = t.shell("docker ps -a").ok();
        let row = list.row("hello-world");
        assert!(row.contains("Exited (0)"), "{list}");
        let id = row.split_whitespace().next().unwrap().to_string();
        let name = row.split_whitespace().last().unwrap().to_string();
        assert!(name.split_once('_').is_some_and(|(left, right)| !left.is_empty() && !right.is_empty()), "{name}");
        t.shell(&format!("docker logs {id}")).ok().matches(r"(?i)hello from \w+!");
        t.shell(&format!("docker logs {name}")).ok().matches(r"(?i)hello from \w+!");
        t.shell(&format!("docker inspect {id}"))
            .ok()
            .says("\"RestartCount\": 0")
            .says(&format!("\"Name\": \"/{name}\""));
        t.shell(&format!("docker rm {name}")).ok().prints(&name);
        assert_eq!(t.shell("docker ps -a").ok().lines().len(), 1);
    });
}

#[test]
fn running_containers_interactive() {
    both(|t| {
        let Some(registry) = Registry::start() else { skip!("registry", "no docker-registry in the test bed") };
        let Some(debian) = Image::debian() else { skip!("debian", "no debian.tar in the test bed") };
        let Some(t) = alone(t.cli, &registry) else { skip!("own-engine", "images are pulled by their short names") };
        registry.push("library/ubuntu", &["latest"], &debian);
        registry.push("library/busybox", &["latest"], &Image::busybox());
        let mut ubuntu = t.terminal("run -it --rm ubuntu");
        ubuntu.expect("Unable to find image 'ubuntu:latest' locally").expect("latest: Pulling from library/ubuntu");
        ubuntu.expect("Status: Downloaded newer image for ubuntu:latest");
        ubuntu
            .expect("root@")
            .expect(":/# ")
            .line("whoami")
            .expect("root")
            .expect("# ")
            .line("ls")
            .expect("bin")
            .expect("usr");
        ubuntu.expect("# ").line("exit");
        assert_eq!(ubuntu.finish().0, 0);
        let mut busybox = t.terminal("run -it --rm busybox");
        busybox.expect("/ # ").line("busybox").expect("BusyBox").expect("/ # ").send("\x04");
        assert_eq!(busybox.finish().0, 0);
        assert_eq!(t.shell("docker ps -a").ok().lines().len(), 1, "--rm removed both");
    });
}

#[test]
fn running_containers_detached_with_a_port_and_a_volume() {
    both(|t| {
        t.load_once("nginx:latest", &Image::nginx());
        let (name, port) = (t.name("mynginx"), free_port());
        let id = t.cli(&format!("run -d -p {port}:80 --name {name} nginx")).ok();
        assert_eq!(id.text().len(), 64);
        assert!(t.cli("ps").ok().row(&name).contains(&format!("0.0.0.0:{port}->80/tcp")));
        assert!(get(&port, "/").contains("Welcome to nginx!"));
        t.cli(&format!("stop {name}")).ok().prints(&name);
        t.cli(&format!("rm {name}")).ok().prints(&name);
        t.cli(&format!("run -d -p {port}:80 --name {name} nginx")).ok();
        t.cli(&format!("rm -f {name}")).ok().prints(&name);
        let site = t.host_dir();
        site.write("index.html", "my website");
        let volume = format!("-v {}:/usr/share/nginx/html:ro", site.path);
        t.cli(&format!("run -d -p {port}:80 --name {name} {volume} nginx")).ok();
        assert!(get(&port, "/").ends_with("my website"));
        site.write("index.html", "edited");
        assert!(get(&port, "/").ends_with("edited"));
        t.cli(&format!("exec {name} touch /usr/share/nginx/html/x")).fails().complains("Read-only file system");
        t.cli(&format!("rm -f {name}")).ok();
    });
}

fn free_port() -> String {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

#[test]
fn introduction_finding_images() {
    both(|t| {
        let Some(registry) = Registry::start() else { skip!("registry", "no docker-registry in the test bed") };
        let Some(t) = alone(t.cli, &registry) else { skip!("own-engine", "images are pulled by their short names") };
        t.shell("docker info").ok().says("Containers: 0").says("Images: 0");
        for tag in ["2.6", "2.7", "3.1", "3.2", "edge"] {
            registry.push("library/alpine", &[tag], &alpine(tag));
        }
        registry.push("library/alpine", &["latest"], &alpine("3.2"));
        t.shell("docker pull -a alpine").ok();
        let images =
            t.shell("docker images alpine").ok().matches("^REPOSITORY +TAG +IMAGE ID +CREATED +(VIRTUAL )?SIZE");
        for tag in ["2.6", "2.7", "3.1", "3.2", "latest", "edge"] {
            assert!(images.row(&format!(" {tag} ")).starts_with("alpine "), "{images}");
        }
    });
}

#[test]
fn introduction_running_listing_restarting_and_removing() {
    both(|t| {
        t.load_once("alpine:3.2", &alpine("3.2"));
        let name = t.name("intro");
        let mut shell = t.terminal(&format!("run -i -t --name {name} alpine:3.2 /bin/sh"));
        shell.expect("/ # ").line("hostname");
        let id = t.inspect(&name)["Id"].as_str().unwrap()[..12].to_string();
        shell.expect(&id).expect("/ # ").line("ps -ef").expect("1 root").expect("/bin/sh").expect("/ # ");
        shell.line("df -h").expect("Mounted on").expect("/dev/shm").expect("/etc/hosts").expect("/ # ");
        shell.line("free -m").expect("Mem:").expect("/ # ");
        shell.line("ip a").expect("127.0.0.1/8").expect("eth0").expect("inet ").expect("/ # ");
        shell.line("curl ifconfig.co").expect("not found").expect("/ # ").line("touch /changed; exit");
        assert_eq!(shell.finish().0, 0);

        t.cli("run --rm alpine:3.2 ls /changed").fails_with(1);
        let row = t.cli("ps -a").ok().row(&id).to_string();
        assert!(row.contains("\"/bin/sh\"") && row.contains("Exited (0) "), "{row}");
        t.cli(&format!("restart {id}")).ok().prints(&id);
        assert!(t.cli("ps").ok().row(&id).contains("Up "));
        let mut attached = t.terminal(&format!("attach {id}"));
        attached.line("ls /changed").expect("/changed").expect("/ # ").send("\x04");
        attached.finish();
        assert!(t.cli("ps -a").ok().row(&id).contains("Exited "));
        t.cli(&format!("rm {id}")).ok().prints(&id);
    });
}

#[test]
fn introduction_detached_containers() {
    both(|t| {
        t.load_once("alpine:3.2", &alpine("3.2"));
        let script = "while true; do echo \"Hello World!\"; sleep 1; done";
        let mut foreground = t.spawn(&format!("run --rm alpine:3.2 /bin/sh -c '{script}'"));
        foreground.wait_for("Hello World!\nHello World!").signal(rustix::process::Signal::INT);
        let id = t.args(&["run", "-d", "alpine:3.2", "/bin/sh", "-c", script]).ok().text().to_string();
        let short = &id[..12];
        assert!(t.cli("ps").ok().row(short).contains("\"/bin/sh -c 'while t"), "the command is shown shortened");
        eventually("it greets", || t.cli(&format!("logs {short}")).stdout.contains("Hello World!"));
        let mut following = t.spawn(&format!("logs -f -t {short}"));
        following.wait_for("Z Hello World!");
        let top = t.cli(&format!("top {short}")).ok().matches("^UID +PID +PPID +C +STIME +TTY +TIME +CMD");
        assert!(top.row("/bin/sh -c while true").starts_with("root"), "{top}");
        drop(foreground);
        t.cli(&format!("stop -t 1 {id}")).ok().prints(&id);
        following.finish_with_open_stdin().ok();
        t.cli(&format!("rm {id}")).ok();
    });
}

#[test]
fn introduction_removing_everything_that_has_stopped() {
    both(|t| {
        let Some(registry) = Registry::start() else { skip!("registry", "no docker-registry in the test bed") };
        let Some(t) = alone(t.cli, &registry) else { skip!("own-engine", "removes every container that there is") };
        t.load("alpine:3.2", &alpine("3.2"));
        t.shell(
            "docker run alpine:3.2 true; docker run alpine:3.2 true; docker run -d --name up alpine:3.2 sleep 1000",
        )
        .ok();
        let removed = t.shell("docker ps -a -q | xargs docker rm");
        assert_ne!(removed.code, 0, "docker prevents the running one from being deleted: {removed}");
        removed.complains("stop the container before removing");
        assert_eq!(t.shell("docker ps -a -q").ok().lines().len(), 1);
        t.shell("docker rm -f up").ok();
    });
}

#[test]
fn introduction_a_server_that_leaves_the_foreground_and_one_that_stays() {
    both(|t| {
        let image = "nginx-static-test:1.0";
        t.load_once(image, &Image::nginx());
        let id = t.cli(&format!("run -d -p 80 {image} nginx")).ok().text().to_string();
        eventually("it has ended with its first process", || t.inspect(&id)["State"]["Running"] == false);
        t.cli("ps").ok().says_not(&id[..12]);
        let mut shell = t.terminal(&format!("run --rm -i -t {image} /bin/sh"));
        shell
            .expect("/ # ")
            .line("which nginx")
            .expect("/usr/sbin/nginx")
            .expect("/ # ")
            .line("nginx")
            .expect("/ # ")
            .line("exit");
        assert_eq!(shell.finish().0, 0);
        let id = t.args(&["run", "-d", "-p", "80", image, "nginx", "-g", "daemon off;"]).ok().text().to_string();
        t.cli("ps").ok().row(&id[..12]);
        let port = t.cli(&format!("port {} 80/tcp", &id[..12])).ok().matches(r"^0\.0\.0\.0:\d+$");
        let port = port.lines()[0].rsplit(':').next().unwrap().to_string();
        assert!(get(&port, "/").contains("Welcome to nginx!"));
        assert!(get(&port, "/VERSION").contains("Generated"));
        t.cli(&format!("rm -f {id}")).ok();
    });
}

/// The first command of the README, where no registry can be reached.
#[test]
fn hello_world_runs_without_any_registry() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "dockerd has no image built in");
        }
        let nobody: Vec<String> = ["--registry-mirror", "http://127.0.0.1:1"].map(Into::into).into();
        for cli in [Cli::Docker, Cli::Hoist] {
            let bed = Bed::bare(cli, Engine::start_own(&nobody));
            bed.cli("run hello-world").ok().matches(r"(?i)hello from \w+!");
        }
    });
}
