//! Faults of the medium, in every phase of an export: the rows of `tests/faults/matrix.txt`.
//!
//! A line `// fault-matrix: rows 1, 2` above a test says which rows it covers. `make test` runs a part of
//! each sweep; `make test-faults` runs all of it (`PANNIER_FAULTS=all`) and prints the table.

mod calls;
mod counterfeit;
mod kill;
mod limits;
mod power;
mod readonly;
mod room;
mod rot;
mod source;
mod space;
mod yank;
