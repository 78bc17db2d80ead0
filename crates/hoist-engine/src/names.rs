//! Random container names, `adjective_surname`, from word lists of our own.

use rand::seq::IndexedRandom;

const ADJECTIVES: [&str; 96] = [
    "able", "agile", "airy", "alert", "amber", "ample", "apt", "ardent", "artful", "astute", "azure", "balmy",
    "blithe", "bold", "bonny", "brave", "breezy", "bright", "brisk", "calm", "candid", "chipper", "civil", "clear",
    "clever", "cosmic", "cozy", "crisp", "curious", "dapper", "daring", "deft", "dreamy", "eager", "earnest", "easy",
    "elated", "fair", "fearless", "fleet", "fluent", "fond", "frank", "fresh", "frosty", "gallant", "gentle", "glad",
    "golden", "graceful", "grand", "handy", "hardy", "hearty", "helpful", "humble", "jaunty", "jolly", "jovial",
    "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "mighty", "modest", "neat", "nimble", "noble",
    "patient", "placid", "plucky", "polite", "proud", "quick", "quiet", "ready", "robust", "rosy", "serene", "sharp",
    "silver", "smart", "snug", "sound", "spry", "stable", "steady", "sunny", "swift", "tidy", "upbeat", "vivid",
    "warm",
];

const SURNAMES: [&str; 120] = [
    "abel",
    "agnesi",
    "alhazen",
    "ampere",
    "anning",
    "archimedes",
    "aryabhata",
    "avogadro",
    "babbage",
    "bardeen",
    "becquerel",
    "bell",
    "bernoulli",
    "berzelius",
    "bohr",
    "boltzmann",
    "boole",
    "bose",
    "boyle",
    "brahe",
    "cannon",
    "cantor",
    "carnot",
    "carson",
    "cauchy",
    "cavendish",
    "celsius",
    "chandrasekhar",
    "chatelet",
    "clausius",
    "copernicus",
    "coulomb",
    "crick",
    "curie",
    "dalton",
    "darwin",
    "davy",
    "dedekind",
    "descartes",
    "dijkstra",
    "dirac",
    "doppler",
    "edison",
    "einstein",
    "engelbart",
    "eratosthenes",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fibonacci",
    "fleming",
    "fourier",
    "franklin",
    "fresnel",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "goedel",
    "goodall",
    "hamilton",
    "harvey",
    "heisenberg",
    "helmholtz",
    "herschel",
    "hertz",
    "hilbert",
    "hodgkin",
    "hooke",
    "hopper",
    "hubble",
    "humboldt",
    "huygens",
    "hypatia",
    "jemison",
    "joule",
    "kalam",
    "kelvin",
    "kepler",
    "khayyam",
    "kovalevskaya",
    "lagrange",
    "lamarr",
    "laplace",
    "lavoisier",
    "leavitt",
    "leibniz",
    "linnaeus",
    "lovelace",
    "maxwell",
    "mayer",
    "mcclintock",
    "meitner",
    "mendel",
    "mendeleev",
    "napier",
    "newton",
    "noether",
    "ohm",
    "pascal",
    "pasteur",
    "pauli",
    "planck",
    "poincare",
    "ptolemy",
    "ramanujan",
    "raman",
    "riemann",
    "rubin",
    "rutherford",
    "sagan",
    "salk",
    "shannon",
    "tesla",
    "turing",
    "volta",
    "wu",
];

/// A name; `attempt` above zero adds a digit, so that a crowded engine still finds one.
pub(crate) fn random(attempt: u32) -> String {
    let mut rng = rand::rng();
    let adjective = ADJECTIVES.choose(&mut rng).unwrap_or(&ADJECTIVES[0]);
    let surname = SURNAMES.choose(&mut rng).unwrap_or(&SURNAMES[0]);
    if attempt == 0 {
        format!("{adjective}_{surname}")
    } else {
        format!("{adjective}_{surname}{}", rand::random_range(0..10))
    }
}

/// 64 random hex digits, never all digits in the first 12 (that could be taken for a number).
pub(crate) fn random_id() -> String {
    loop {
        let bytes: [u8; 32] = rand::random();
        let id: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        if !id[..12].bytes().all(|b| b.is_ascii_digit()) {
            return id;
        }
    }
}

/// Docker's rule: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn valid(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() >= 2
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}
