//! Media and sources made by somebody who means harm (H17 to H64 of the list of hostile media): each is
//! refused with its exit status and finding, and nothing of it reaches containerd.

mod archives;
mod documents;
mod files;
mod fuse;
mod layers;
mod maker;
mod names;
mod node;
mod registries;
