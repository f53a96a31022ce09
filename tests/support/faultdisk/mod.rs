//! A disk that misbehaves as it is told: one file behind FUSE, a loop device on it, a filesystem on that.
//!
//! ```ignore
//! let stick = Stick::new(Kind::Ext4, 64 << 20);
//! stick.disk.yank_at(Op::Write, 20);
//! let output = pannier(["export", …, "--to", text(&stick.path())]).output();
//! ```
//!
//! [`model`] is the disk: what it holds and how it lies. [`server`] serves it to the kernel. [`stick`] puts a
//! filesystem on it. [`powercut`] makes the disk that a loss of power leaves, at any moment of what was recorded.
//!
//! All mounts are in a mount namespace of the test's own: whatever becomes of the test, they go with it.

mod model;
mod powercut;
mod server;
mod stick;

pub(crate) use model::{Capacity, Disk, Op, SECTOR};
pub(crate) use powercut::{Fate, Recording};
pub(crate) use stick::{Kind, Mounted, Stick, available, format, own_namespace};
