//! The program that the suite puts into images to look at the world from inside a container. Static, without libraries.
//!
//! What busybox can show, busybox shows; here is only what it cannot.

use std::net::UdpSocket;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["udp-echo", port] => udp_echo(port),
        ["fds"] => fds(),
        ["clobber", path, seconds] => clobber(path, seconds),
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

/// Tries for some seconds to open for writing the executable of every process it sees, as CVE-2019-5736 did, and says
/// what it could open.
fn clobber(path: &str, seconds: &str) -> ExitCode {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(seconds.parse().unwrap_or(1));
    let mut opened = std::collections::BTreeSet::new();
    println!("ready");
    while std::time::Instant::now() < until {
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let link = entry.path().join("exe");
            let Ok(target) = std::fs::read_link(&link) else { continue };
            if target.to_string_lossy().contains(path) {
                continue;
            }
            // A handle that is kept while the process goes on to its next program is the whole trick.
            let Ok(kept) = std::fs::File::open(&link) else { continue };
            let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&kept));
            if std::fs::File::options().write(true).open(&again).is_ok() {
                opened.insert(target.display().to_string());
            }
        }
    }
    for target in opened {
        println!("writable: {target}");
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
