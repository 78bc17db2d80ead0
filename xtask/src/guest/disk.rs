//! A disk that loses in a power cut what was not flushed: a server of QEMU's network block protocol on a unix socket,
//! which remembers what each write since the last flush replaced. Owns the order of bytes on that socket.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};

/// The size in which a disk writes for good or not at all.
const SECTOR: u64 = 4096;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
/// That flags are given, that there is a flush, and that a write can be one by itself.
const FLAGS: u32 = 0b1101;

/// What the write cache loses.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    Nothing,
    All,
    /// Each sector by itself, or not.
    Some,
}

/// One sector's write that no flush has followed.
struct Piece {
    offset: u64,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// The server of one boot.
pub(super) struct Disk {
    image: File,
    socket: PathBuf,
    thread: JoinHandle<Result<Vec<Piece>>>,
}

impl Disk {
    pub(super) fn serve(image: &Path, socket: &Path) -> Result<Disk> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).with_context(|| format!("{}", socket.display()))?;
        let image = File::options().read(true).write(true).open(image)?;
        let file = image.try_clone()?;
        let thread = std::thread::spawn(move || serve(&listener.accept()?.0, &file));
        Ok(Disk { image, socket: socket.to_path_buf(), thread })
    }

    /// For QEMU's `-drive`: a disk whose guest must flush.
    pub(super) fn drive(&self) -> String {
        format!("format=raw,cache=writeback,file=nbd:unix:{}", self.socket.display())
    }

    /// Once QEMU is gone: takes back what the cut loses. Returns how many sectors were lost, of how many.
    pub(super) fn lose(self, loss: Loss, random: &mut Random) -> Result<(usize, usize)> {
        let Ok(pieces) = self.thread.join() else { bail!("the disk's server panicked") };
        let pieces = pieces?;
        if matches!(loss, Loss::Nothing) {
            return Ok((0, pieces.len()));
        }
        // Backwards to what was there at the last flush, then forwards with what the disk had done already.
        for piece in pieces.iter().rev() {
            self.image.write_all_at(&piece.before, piece.offset)?;
        }
        let mut lost = pieces.len();
        for piece in &pieces {
            if matches!(loss, Loss::Some) && random.below(2) == 0 {
                self.image.write_all_at(&piece.after, piece.offset)?;
                lost -= 1;
            }
        }
        Ok((lost, pieces.len()))
    }
}

/// Serves until QEMU goes away and returns what is not flushed then.
fn serve(mut stream: &UnixStream, image: &File) -> Result<Vec<Piece>> {
    let mut greeting = b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53".to_vec();
    greeting.extend(image.metadata()?.len().to_be_bytes());
    greeting.extend(FLAGS.to_be_bytes());
    greeting.resize(152, 0);
    stream.write_all(&greeting)?;
    let mut unflushed = Vec::new();
    let mut header = [0; 28];
    // A request that came in half was never carried out.
    while stream.read_exact(&mut header).is_ok() {
        let number = |from: usize, to: usize| header[from..to].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        if number(0, 4) != u64::from(REQUEST) {
            bail!("no request of the block protocol: {header:?}");
        }
        let (forced, kind, offset, length) = (number(4, 6) & 1 == 1, number(6, 8), number(16, 24), number(24, 28));
        let mut data = Vec::new();
        match kind {
            0 => {
                data.resize(usize::try_from(length)?, 0);
                image.read_exact_at(&mut data, offset)?;
            }
            1 => {
                let mut written = vec![0; usize::try_from(length)?];
                if stream.read_exact(&mut written).is_err() {
                    break;
                }
                write(image, offset, &written, (!forced).then_some(&mut unflushed))?;
            }
            3 => unflushed.clear(),
            _ => break,
        }
        let mut reply = REPLY.to_be_bytes().to_vec();
        reply.extend([0; 4]);
        reply.extend_from_slice(&header[8..16]);
        reply.extend(data);
        if stream.write_all(&reply).is_err() {
            break;
        }
    }
    Ok(unflushed)
}

fn write(image: &File, mut offset: u64, mut data: &[u8], mut unflushed: Option<&mut Vec<Piece>>) -> Result<()> {
    while !data.is_empty() {
        let room = usize::try_from(SECTOR - offset % SECTOR)?;
        let (piece, rest) = data.split_at(room.min(data.len()));
        if let Some(unflushed) = &mut unflushed {
            let mut before = vec![0; piece.len()];
            image.read_exact_at(&mut before, offset)?;
            unflushed.push(Piece { offset, before, after: piece.to_vec() });
        }
        image.write_all_at(piece, offset)?;
        offset += piece.len() as u64;
        data = rest;
    }
    Ok(())
}

/// Numbers that are the same for the same seed (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}
