//! The `pannier` command: everything is in the library, [`pannier::cli`] is where it begins.

fn main() -> std::process::ExitCode {
    share_memory();
    pannier::cli::main()
}

/// Has all threads take memory from one place. glibc gives each its own, and what is free in one of them is of no use to
/// another: with many small images that was half of the peak.
fn share_memory() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: no other thread runs yet; the call sets a number, and one that is refused changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
