//! The `pannier` command: everything is in the library, [`pannier::cli`] is where it begins.

fn main() -> std::process::ExitCode {
    pannier::cli::main()
}
