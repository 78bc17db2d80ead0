//! execve(2) with prepared C strings, so that nothing has to be allocated at the last moment.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::unix::ffi::OsStrExt;

/// A null-terminated array of C strings that it owns.
pub struct CStrings {
    /// Kept for `pointers`, which point into it.
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl CStrings {
    /// `InvalidInput` if one of the strings has a NUL byte.
    pub fn new<S: AsRef<std::ffi::OsStr>>(strings: impl IntoIterator<Item = S>) -> io::Result<CStrings> {
        let strings = strings
            .into_iter()
            .map(|string| CString::new(string.as_ref().as_bytes()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "string contains a NUL byte"))?;
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(CStrings { _strings: strings, pointers })
    }
}

/// Replaces the process. Returns only an error.
pub fn execve(path: &CStr, arguments: &CStrings, environment: &CStrings) -> io::Error {
    // SAFETY: `path` is a C string; both arrays end with a null pointer and point to C strings that their owners, which
    // outlive the call, keep unmoved on the heap.
    unsafe { libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    io::Error::last_os_error()
}
