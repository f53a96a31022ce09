//! The `pannier` command: everything is in the library, [`pannier::cli`] is where it begins.

fn main() -> std::process::ExitCode {
    share_memory();
    pannier::cli::main()
}

/// Has all threads take memory from one place. glibc gives each its own, and what is free in one of them is of no use to
/// another: with many small images that was half of the peak. And large blocks, such as the windows of decoders, go back
/// to the system at once; left alone, glibc keeps them as soon as one was freed.
fn share_memory() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: no other thread runs yet; the calls set numbers, and one that is refused changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * LARGE);
    }
}

/// From how many bytes on a block is large: more than the messages to containerd, which come again and again.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 4 << 20;
