//! The file that says which process the engine is.

use std::path::Path;

/// Refuses while another engine lives; a stale file is replaced.
pub(crate) fn write(path: &Path) -> Result<(), String> {
    if let Ok(text) = std::fs::read_to_string(path)
        && let Ok(pid) = text.trim().parse::<u32>()
        && pid != std::process::id()
        && is_alive(pid)
    {
        return Err(format!("process with PID {pid} is still running (pid file {})", path.display()));
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| format!("create {}: {e}", parent.display()))?;
    }
    std::fs::write(path, std::process::id().to_string()).map_err(|e| format!("write {}: {e}", path.display()))
}

/// Whether there is such a process that has not ended. One that waits for its parent to ask for its end (proc(5), state
/// `Z`) is an engine that was killed.
fn is_alive(pid: u32) -> bool {
    // The state comes after the name, which is in parentheses and may have some in it.
    let state = |stat: String| stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !matches!(state(stat), Some('Z' | 'X')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_ended_is_not_alive_before_its_parent_knows() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        assert!(is_alive(child.id()) && is_alive(std::process::id()));
        child.kill().unwrap();
        while is_alive(child.id()) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(Path::new(&format!("/proc/{}", child.id())).exists());
        child.wait().unwrap();
        assert!(!is_alive(child.id()));
    }
}
