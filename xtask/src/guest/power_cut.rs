//! `cargo xtask guest power-cut`: the guest is killed in the middle of its work, again and again, on a disk that loses
//! what was not flushed. What the guest was told by its engine is written down here, outside; the next boot checks it.
//!
//! The work and the checks are the suite's (`tests/power_cut/main.rs`).

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::disk::{Disk, Loss, Random};
use super::image;
use super::machine::{Machine, Next, exit_code};
use crate::e2e::Scope;

/// The kernel writes early, so that the disk's cache has much to lose and not only the page cache.
const COMMAND: &str = "echo 10 > /proc/sys/vm/dirty_writeback_centisecs\n\
    echo 20 > /proc/sys/vm/dirty_expire_centisecs\n\
    mkdir -p /data && mount -t ext4 -o noatime /dev/vdc /data || exit 1\n\
    exec /payload/power-cut /data /dev/vdd\n";
/// What begins a line that must be remembered.
const MARK: &str = "power: ";
/// What the disk of the journal has room for.
const JOURNAL_BYTES: usize = 4 << 20;

pub(super) fn run(scope: Scope, guest: &Path, cuts: u32, seed: u64) -> Result<()> {
    image::make_payload(scope, guest, COMMAND)?;
    let empty = guest.join("empty");
    fs::create_dir_all(&empty)?;
    let data = guest.join("data.img");
    image::image_of(&empty, &data, "2G", "has_journal")?;
    let mut random = Random(seed);
    let mut journal = String::new();
    println!("{cuts} cuts, seed {seed}");
    for cut in 0..cuts {
        one_cut(guest, &data, cut, &mut random, &mut journal)?;
    }
    journal.push_str("last\n");
    write_journal(guest, &journal)?;
    let drive = format!("format=raw,cache=unsafe,file={}", data.display());
    match Machine::boot(guest, &[drive, journal_drive(guest)], "loglevel=1")?.exit_code(super::deadline())? {
        0 => Ok(()),
        code => bail!("after the last cut: {code}"),
    }
}

fn one_cut(guest: &Path, data: &Path, cut: u32, random: &mut Random, journal: &mut String) -> Result<()> {
    journal.push_str(&format!("boot {cut}\n"));
    write_journal(guest, journal)?;
    let disk = Disk::serve(data, &guest.join("data.sock"))?;
    // Kernel messages would come between the journal's lines.
    let machine = Machine::boot(guest, &[disk.drive(), journal_drive(guest)], "loglevel=1")?;
    // One cut in four comes while the engine starts and looks at what the cut before left.
    let (begins, longest_ms) = if cut % 4 == 3 { ("power: check", 1500) } else { ("power: work", 6000) };
    let after = Duration::from_millis(random.below(longest_ms));
    let mut deadline = super::deadline();
    let mut begun = false;
    loop {
        match machine.next(deadline) {
            Next::Line(line) => {
                if let Some(code) = exit_code(&line) {
                    bail!("before cut {cut} the guest ended: {code}");
                }
                if line == begins {
                    deadline = Instant::now() + after;
                    begun = true;
                }
                note(&line, journal);
            }
            Next::Late if begun => break,
            Next::Late => bail!("before cut {cut} the guest takes too long"),
            Next::Ended => bail!("before cut {cut} the guest ended"),
        }
    }
    for line in machine.cut() {
        note(&line, journal);
    }
    let loss = [Loss::Some, Loss::All, Loss::Some, Loss::Nothing][usize::try_from(random.below(4))?];
    let (lost, of) = disk.lose(loss, random)?;
    println!("cut {cut}: {} ms after `{begins}`, {lost} of {of} unflushed sectors lost", after.as_millis());
    Ok(())
}

/// Keeps what the journal wants and shows the rest.
fn note(line: &str, journal: &mut String) {
    match line.strip_prefix(MARK) {
        Some(fact) => journal.extend([fact, "\n"]),
        None => println!("| {line}"),
    }
}

/// The journal as a disk: its text, then zeros.
fn write_journal(guest: &Path, journal: &str) -> Result<()> {
    let mut bytes = journal.as_bytes().to_vec();
    if bytes.len() > JOURNAL_BYTES {
        bail!("the journal is too long");
    }
    bytes.resize(JOURNAL_BYTES, 0);
    Ok(fs::write(guest.join("journal.img"), bytes)?)
}

fn journal_drive(guest: &Path) -> String {
    format!("format=raw,readonly=on,file={}", guest.join("journal.img").display())
}
