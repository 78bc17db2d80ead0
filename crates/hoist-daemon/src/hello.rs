//! The `hello-world` image that is built into the binary: used when a pull of it finds no registry, so that the first
//! command on a fresh machine works. Its one file is a static ELF program made here, which prints a text and ends.

use hoist_api::error::Error;
use hoist_api::image::ContainerConfig;
use hoist_api::reference::Reference;
use hoist_engine::Engine;

/// What the program prints: the steps that led to it, as they happen.
const TEXT: &str = "
Hello from Hoist!
This message shows that containers work on this machine.

These steps led to it:
 1. The hoist client asked the hoist engine to run a container of the image
    \"hello-world\". If no engine was running, the client started one.
 2. The engine did not have the image, and no registry gave it one, so it took
    the copy that is built into the hoist program.
 3. The engine made a container of that image and had a supervisor process start
    it in namespaces and a control group of its own. It ran the program that
    prints this text.
 4. The supervisor passed the text to the engine, the engine to the client, and
    the client wrote it to your terminal.

To try something larger, with a registry in reach:
 $ hoist run -it debian bash

";

const LOAD_ADDRESS: u64 = 0x40_0000;
const ELF_HEADER_BYTES: u64 = 64;
const PROGRAM_HEADER_BYTES: u64 = 56;

/// Whether this is the reference that the built-in image stands in for.
pub(crate) fn stands_in_for(reference: &Reference) -> bool {
    reference.familiar_name() == "hello-world"
        && reference.tag.as_deref().is_none_or(|tag| tag == "latest")
        && reference.digest.is_none()
}

/// Installs the image; returns its id.
pub(crate) fn install(engine: &Engine, reference: &Reference) -> Result<String, Error> {
    let failed = |e: std::io::Error| Error::internal(format!("the built-in hello-world image cannot be made: {e}"));
    let program = program().ok_or_else(|| {
        Error::not_implemented(format!("there is no built-in hello-world image for {}", std::env::consts::ARCH))
    })?;
    let layer = layer(&program).map_err(failed)?;
    let config = ContainerConfig {
        cmd: Some(vec!["/hello".to_owned()]),
        env: Some(vec![format!("PATH={}", hoist_runtime::defaults::DEFAULT_PATH)]),
        ..ContainerConfig::default()
    };
    let reference = reference.clone().with_default_tag();
    engine.images.import(&mut layer.as_slice(), Some(&reference), &config, "built into hoist", None)
}

fn layer(program: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_mtime(1_767_225_600);
    header.set_cksum();
    tar.append_data(&mut header, "hello", program)?;
    tar.into_inner()
}

/// An ELF executable (elf(5)) with one segment: headers, code, text. `None` on architectures without code here.
fn program() -> Option<Vec<u8>> {
    let length = u32::try_from(TEXT.len()).ok()?;
    let (machine, code) = match std::env::consts::ARCH {
        "x86_64" => (62_u16, x86_64(length)),
        "aarch64" => (183, aarch64(length)),
        _ => return None,
    };
    let head = ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES;
    let size = head + (code.len() + TEXT.len()) as u64;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    elf.extend_from_slice(&2_u16.to_le_bytes()); // ET_EXEC
    elf.extend_from_slice(&machine.to_le_bytes());
    elf.extend_from_slice(&1_u32.to_le_bytes());
    for word in [LOAD_ADDRESS + head, ELF_HEADER_BYTES, 0] {
        elf.extend_from_slice(&word.to_le_bytes()); // entry, program headers, no section headers
    }
    elf.extend_from_slice(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes()); // sizes and counts of headers
    }
    elf.extend_from_slice(&1_u32.to_le_bytes()); // PT_LOAD
    elf.extend_from_slice(&5_u32.to_le_bytes()); // readable, executable
    for word in [0, LOAD_ADDRESS, LOAD_ADDRESS, size, size, 0x1000] {
        elf.extend_from_slice(&word.to_le_bytes()); // offset, addresses, sizes, alignment
    }
    elf.extend_from_slice(&code);
    elf.extend_from_slice(TEXT.as_bytes());
    Some(elf)
}

/// write(1, text, length); exit(0). The text follows the code.
fn x86_64(length: u32) -> Vec<u8> {
    let mut code = vec![0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0]; // mov eax, 1; mov edi, 1
    code.extend_from_slice(&[0x48, 0x8d, 0x35, 16, 0, 0, 0]); // lea rsi, [rip + 16]
    code.push(0xba); // mov edx, length
    code.extend_from_slice(&length.to_le_bytes());
    code.extend_from_slice(&[0x0f, 0x05, 0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]); // syscall; mov eax, 60; xor edi, edi; syscall
    code
}

/// The same for arm64.
fn aarch64(length: u32) -> Vec<u8> {
    let words = [
        0xd280_0020,                            // mov x0, #1
        0x1000_00e1,                            // adr x1, #28
        0xd280_0002 | ((length & 0xffff) << 5), // mov x2, #length
        0xd280_0808,                            // mov x8, #64
        0xd400_0001,                            // svc #0
        0xd280_0000,                            // mov x0, #0
        0xd280_0ba8,                            // mov x8, #93
        0xd400_0001_u32,                        // svc #0
    ];
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_program_runs_and_prints_its_text() {
        let path = std::env::temp_dir().join(format!("hoist-hello-{}", std::process::id()));
        std::fs::write(&path, program().unwrap()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = std::process::Command::new(&path).output().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), TEXT);
    }
}
