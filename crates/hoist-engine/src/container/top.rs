//! `docker top`: the host's `ps`, restricted to the container's processes (as dockerd does, so that every option works).

use std::process::{Command, Stdio};

use hoist_api::container::Top;

use crate::error::{Error, Result};

/// Runs `ps <arguments>` and keeps the lines of `pids`.
pub(crate) fn top(arguments: &str, pids: &[i32]) -> Result<Top> {
    let arguments: Vec<&str> =
        if arguments.trim().is_empty() { vec!["-ef"] } else { arguments.split_whitespace().collect() };
    if arguments.iter().any(|a| a.contains("pid=")) && arguments.iter().any(|a| a.contains("=PID")) {
        return Err(Error::invalid("specifying \"ps_args\" with renamed pid fields is not supported"));
    }
    let output = Command::new("ps").args(&arguments).stdin(Stdio::null()).output().map_err(|e| {
        Error::internal(format!("Error running ps: {e}: docker top needs the host's `ps` (Debian package procps)"))
    })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::invalid(format!("ps: {}", text.trim().lines().next().unwrap_or_default())));
    }
    parse(&String::from_utf8_lossy(&output.stdout), pids)
}

fn parse(output: &str, pids: &[i32]) -> Result<Top> {
    let mut lines = output.lines();
    let titles: Vec<String> = lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let pid_at = titles
        .iter()
        .position(|t| t == "PID")
        .ok_or_else(|| Error::internal("Couldn't find PID field in ps output"))?;
    let processes = lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let pid: i32 = fields.get(pid_at)?.parse().ok()?;
            if !pids.contains(&pid) {
                return None;
            }
            // The last column is the command and keeps its blanks.
            let (head, tail) = fields.split_at(titles.len().saturating_sub(1).min(fields.len()));
            let mut row: Vec<String> = head.iter().map(|f| (*f).to_owned()).collect();
            row.push(tail.join(" "));
            Some(row)
        })
        .collect();
    Ok(Top { processes, titles })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_the_containers_lines_stay_and_commands_keep_blanks() {
        let output = "UID PID PPID CMD\nroot 1 0 init\nroot 7 1 sh -c sleep 1\n";
        let top = parse(output, &[7]).unwrap();
        assert_eq!(top.processes, [["root", "7", "1", "sh -c sleep 1"]]);
        assert!(parse("A B\n", &[1]).is_err());
    }
}
