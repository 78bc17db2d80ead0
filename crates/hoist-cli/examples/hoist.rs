//! The command line alone, for work on it without the engine.

fn main() {
    std::process::exit(hoist_cli::main(std::env::args_os().collect()));
}
