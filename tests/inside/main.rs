//! The program that the suite puts into images to look at the world from inside a container. Static, without libraries.
//!
//! What busybox can show, busybox shows; here is only what it cannot.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["udp-echo", port] => udp_echo(port),
        ["fds"] => fds(),
        ["clobber", stop, own @ ..] => clobber(stop, own),
        ["swap", one, two, seconds] => swap(one, two, seconds),
        ["exit", code] => ExitCode::from(code.parse::<u8>().unwrap_or(255)),
        other => {
            eprintln!("inside: no such thing: {other:?}");
            ExitCode::from(2)
        }
    }
}

/// Sends every datagram back.
fn udp_echo(port: &str) -> ExitCode {
    let socket = UdpSocket::bind(format!("[::]:{port}")).or_else(|_| UdpSocket::bind(format!("0.0.0.0:{port}")));
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("udp-echo {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("ready");
    let mut buffer = [0; 65536];
    loop {
        if let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..count], from);
        }
    }
}

/// Prints every open file descriptor of this process, which inherited all but the one that reads the list.
fn fds() -> ExitCode {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        // The directory that is being read is ours.
        if !target.to_string_lossy().contains("/fd") {
            lines.push(format!("{} {}", entry.file_name().to_string_lossy(), target.display()));
        }
    }
    lines.sort_unstable();
    println!("{}", lines.join("\n"));
    ExitCode::SUCCESS
}

/// Opens the executable of every process it sees and keeps it, as CVE-2019-5736 did; when `stop` appears it tries to open
/// each of them again, for writing: by then nobody runs them. Says what it could open. Executables named in `own` are the
/// image's.
fn clobber(stop: &str, own: &[&str]) -> ExitCode {
    let mut kept: BTreeMap<String, File> = BTreeMap::new();
    println!("ready");
    while !Path::new(stop).exists() {
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let link = entry.path().join("exe");
            let Ok(target) = std::fs::read_link(&link) else { continue };
            let target = target.display().to_string();
            if own.contains(&target.as_str()) || kept.contains_key(&target) {
                continue;
            }
            if let Ok(file) = File::open(&link) {
                println!("seen: {target}");
                kept.insert(target, file);
            }
        }
    }
    // Whoever asked us to stop may still run what we hold.
    std::thread::sleep(std::time::Duration::from_secs(1));
    for (target, file) in kept {
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        match File::options().write(true).open(&again) {
            Ok(_) => println!("writable: {target}"),
            Err(error) => println!("refused: {target}: {error}"),
        }
    }
    ExitCode::SUCCESS
}

/// Exchanges two names as fast as it can, for racing whoever walks them.
fn swap(one: &str, two: &str, seconds: &str) -> ExitCode {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(seconds.parse().unwrap_or(1));
    println!("ready");
    while std::time::Instant::now() < until {
        for _ in 0..100 {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            if let Err(error) = rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, two, flags) {
                eprintln!("swap {one} {two}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
