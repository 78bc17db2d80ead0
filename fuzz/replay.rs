//! Replays the seeds of a crate's fuzz targets, whole, cut short and with bits turned over, in an ordinary test: what a
//! fuzzer once found stays found. Each crate's `fuzzing` module includes this file; the fuzzers themselves do not.

use std::path::Path;

/// Cuts and flips of one seed; more of them belong to the fuzzer.
const VARIANTS: usize = 32;

#[test]
fn seeds_of_every_fuzz_target_are_survived() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    for (name, target) in super::TARGETS {
        assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).is_file(), "target {name} has no program");
        let directory = fuzz.join("seeds").join(name);
        let entries = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        let mut seeds: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        seeds.sort();
        assert!(!seeds.is_empty(), "target {name} has no seeds");
        for path in seeds {
            // Shown only when the target panics.
            println!("{}", path.display());
            let seed = std::fs::read(&path).unwrap();
            target(&seed);
            for variant in variants(&seed) {
                target(&variant);
            }
        }
    }
}

fn variants(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let step = (seed.len() / VARIANTS).max(1);
    let cuts = (0..seed.len()).step_by(step).map(|end| seed[..end].to_vec());
    let flips = (0..seed.len()).step_by(step).enumerate().map(|(count, at)| {
        let mut flipped = seed.to_vec();
        flipped[at] ^= 1 << (count % 8);
        flipped
    });
    cuts.chain(flips)
}
