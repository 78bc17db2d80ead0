//! The one crate that talks to the kernel below the level of safe libraries, and the only one that holds unsafe code.
//! One kernel interface per file; each exposes owned fds and typed flags. Knows nothing of containers.

pub mod bpf;
pub mod capability;
pub mod exec;
pub mod fd;
pub mod file;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod poll;
pub mod process;
pub mod rootfs;
pub mod schedule;
pub mod seccomp;
pub mod signal;
pub mod socket;
mod syscall;

/// An error's text as Go programs print it (`no such file or directory`), which Docker's clients match.
pub fn errno_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    if error.raw_os_error().is_none() {
        return text;
    }
    let text = text.rsplit_once(" (os error ").map_or(text.as_str(), |(text, _)| text);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn errno_texts_read_as_those_of_go() {
        let text = |errno| super::errno_text(&std::io::Error::from_raw_os_error(errno));
        assert_eq!(text(libc::ENOENT), "no such file or directory");
        assert_eq!(text(libc::EACCES), "permission denied");
        assert_eq!(text(libc::EIO), "input/output error");
        assert_eq!(super::errno_text(&std::io::Error::other("Own Words")), "Own Words");
    }
}
