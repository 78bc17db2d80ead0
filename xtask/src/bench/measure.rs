//! Taking times and telling them.

use std::fmt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::side::Side;

/// Times of one command, sorted, in milliseconds.
pub(super) struct Figure(Vec<f64>);

impl Figure {
    pub(super) fn of(rounds: usize, mut measure: impl FnMut() -> Result<Duration>) -> Result<Self> {
        measure()?;
        let times = (0..rounds).map(|_| measure()).collect::<Result<Vec<_>>>()?;
        Ok(Self::sorted(times))
    }

    pub(super) fn sorted(times: Vec<Duration>) -> Self {
        let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        times.sort_unstable_by(f64::total_cmp);
        Self(times)
    }

    /// One figure for each command; the commands take turns, after a round that does not count.
    pub(super) fn interleaved<C: Fn() -> Command>(
        rounds: usize,
        gap: Option<Duration>,
        commands: &[C],
    ) -> Result<Vec<Self>> {
        let mut times = vec![Vec::new(); commands.len()];
        for round in 0..=rounds {
            for (command, times) in commands.iter().zip(&mut times) {
                if let Some(gap) = gap {
                    std::thread::sleep(gap);
                }
                let time = run_quietly(&mut command())?;
                if round > 0 {
                    times.push(time);
                }
            }
        }
        Ok(times.into_iter().map(Self::sorted).collect())
    }

    pub(super) fn median(&self) -> f64 {
        self.at(0.5)
    }

    fn at(&self, part: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.2} ms (p10 {:.2}, p90 {:.2})", self.median(), self.at(0.1), self.at(0.9))
    }
}

/// Runs a command to its end, which must be a good one, and tells how long it took.
pub(super) fn run_quietly(command: &mut Command) -> Result<Duration> {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let child = command.spawn().with_context(|| format!("{}", command.get_program().display()))?;
    let output = child.wait_with_output()?;
    let took = start.elapsed();
    if !output.status.success() {
        bail!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(took)
}

/// A line for each side, and how many times slower than the first it is.
pub(super) fn show(what: &str, mode: &str, sides: &[&Side], figures: &[Figure]) {
    for (number, (side, figure)) in sides.iter().zip(figures).enumerate() {
        let ratio = figure.median() / figures[0].median();
        let compared = if number == 0 { String::new() } else { format!(", {ratio:.1} times as long") };
        println!("{what:<25} {mode:<12} {:<25} {figure}{compared}", side.name);
    }
}
