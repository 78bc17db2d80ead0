//! The file that says which process the engine is.

use std::path::Path;

/// Refuses while another engine lives; a stale file is replaced.
pub(crate) fn write(path: &Path) -> Result<(), String> {
    if let Ok(text) = std::fs::read_to_string(path)
        && let Ok(pid) = text.trim().parse::<u32>()
        && pid != std::process::id()
        && Path::new(&format!("/proc/{pid}")).exists()
    {
        return Err(format!("process with PID {pid} is still running (pid file {})", path.display()));
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| format!("create {}: {e}", parent.display()))?;
    }
    std::fs::write(path, std::process::id().to_string()).map_err(|e| format!("write {}: {e}", path.display()))
}
