//! What the disk holds, and how it lies.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Seek};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Bytes that a disk writes whole or not at all.
pub(crate) const SECTOR: usize = 512;

/// Bytes that the memory of a counterfeit holds as one.
const PAGE: usize = 4096;

/// What a request asks of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Read,
    Write,
    Flush,
}

/// How much is behind what the disk says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Capacity {
    /// All of it.
    True,
    /// So many bytes; what is beyond lands on what was written before.
    Wrap(u64),
    /// So many bytes; what is beyond is dropped, and reads as zeros.
    Limbo(u64),
}

/// One request, as it was recorded.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Write(u64, Vec<u8>),
    Flush,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    size: u64,
    store: File,
    capacity: Capacity,
    /// Memory of a counterfeit: the latest pages, which it still knows whatever it made of them.
    cache: BTreeMap<u64, Vec<u8>>,
    order: VecDeque<u64>,
    cached: usize,
    recorded: Option<Vec<Entry>>,
    bad: Vec<Bad>,
    /// A read that returns these bytes returns them with one bit wrong.
    rot: Option<Vec<u8>>,
    gone: bool,
    yank: Option<(Op, usize)>,
    stall: Option<(Op, usize, Duration)>,
    per_second: Option<u64>,
    reads: usize,
    writes: usize,
    flushes: usize,
}

/// Bytes that cannot be read or written.
#[derive(Debug)]
struct Bad {
    op: Op,
    range: Range<u64>,
    /// How often it fails before it works.
    times: usize,
}

impl Disk {
    pub(super) fn new(store: File, size: u64) -> Self {
        store.set_len(size).unwrap();
        let state = State {
            size,
            store,
            capacity: Capacity::True,
            cache: BTreeMap::new(),
            order: VecDeque::new(),
            cached: 0,
            recorded: None,
            bad: Vec::new(),
            rot: None,
            gone: false,
            yank: None,
            stall: None,
            per_second: None,
            reads: 0,
            writes: 0,
            flushes: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn size(&self) -> u64 {
        self.state().size
    }

    // ---- what a test tells it -------------------------------------------------------------------------

    /// Lies about its capacity; the latest `cached` bytes are read back right all the same.
    pub(crate) fn lie(&self, capacity: Capacity, cached: usize) {
        let mut state = self.state();
        state.capacity = capacity;
        state.cached = cached / PAGE;
    }

    /// Forgets what only its memory held, as it does when it is pulled out.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        while state.evict().unwrap() {}
    }

    /// Is pulled out: everything fails from now on.
    pub(crate) fn yank(&self) {
        self.state().gone = true;
    }

    /// Is pulled out before the `number`th such request from now.
    pub(crate) fn yank_at(&self, op: Op, number: usize) {
        self.state().yank = Some((op, number));
    }

    /// Is plugged in again.
    pub(crate) fn plug_in(&self) {
        let mut state = self.state();
        (state.gone, state.yank) = (false, None);
    }

    /// Whether it was pulled out.
    pub(crate) fn is_gone(&self) -> bool {
        self.state().gone
    }

    /// Such requests for any of these bytes fail, so many times.
    pub(crate) fn fail(&self, op: Op, range: Range<u64>, times: usize) {
        self.state().bad.push(Bad { op, range, times });
    }

    /// Has no bad sectors any more.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.bad.clear();
        state.rot = None;
    }

    /// From now on reads that return these bytes return one bit of them wrong.
    pub(crate) fn rot_when_read(&self, bytes: &[u8]) {
        self.state().rot = Some(bytes.to_vec());
    }

    /// Waits so long at the `number`th such request from now, once.
    pub(crate) fn stall_at(&self, op: Op, number: usize, time: Duration) {
        self.state().stall = Some((op, number, time));
    }

    /// Moves no more than so many bytes in a second.
    pub(crate) fn slow_down(&self, per_second: u64) {
        self.state().per_second = Some(per_second);
    }

    /// Begins to record what is written.
    pub(super) fn record(&self) {
        self.state().recorded = Some(Vec::new());
    }

    /// What was recorded so far.
    pub(super) fn recorded(&self) -> Vec<Entry> {
        self.state().recorded.clone().unwrap_or_default()
    }

    /// How many requests were recorded so far.
    pub(crate) fn mark(&self) -> usize {
        self.state().recorded.as_ref().map_or(0, Vec::len)
    }

    /// How many such requests it has served.
    pub(crate) fn count(&self, op: Op) -> usize {
        let state = self.state();
        match op {
            Op::Read => state.reads,
            Op::Write => state.writes,
            Op::Flush => state.flushes,
        }
    }

    /// Where on the disk a block begins with these bytes.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<u64> {
        let state = self.state();
        let mut block = vec![0; 1 << 20];
        for start in (0..state.size).step_by(block.len()) {
            let n = state.store.read_at(&mut block, start).unwrap();
            let at = (0..n).step_by(SECTOR).find(|at| block[*at..n].starts_with(bytes));
            if let Some(at) = at {
                return Some(start + at as u64);
            }
        }
        None
    }

    /// Changes bits behind everybody's back.
    pub(crate) fn flip(&self, offset: u64, mask: u8) {
        let state = self.state();
        let mut byte = [0];
        state.store.read_exact_at(&mut byte, offset).unwrap();
        state.store.write_all_at(&[byte[0] ^ mask], offset).unwrap();
    }

    /// Overwrites bytes behind everybody's back.
    pub(crate) fn overwrite(&self, offset: u64, bytes: &[u8]) {
        self.state().store.write_all_at(bytes, offset).unwrap();
    }

    /// A copy of what it holds.
    pub(super) fn copy_to(&self, path: &std::path::Path) {
        let mut copy = File::create(path).unwrap();
        let state = self.state();
        (&state.store).rewind().unwrap();
        io::copy(&mut (&state.store), &mut copy).unwrap();
    }

    // ---- what the server asks of it -------------------------------------------------------------------

    /// How long to wait before `op` on so many bytes is served.
    pub(super) fn delay(&self, op: Op, bytes: usize) -> Duration {
        let mut state = self.state();
        let mut delay = Duration::ZERO;
        if let Some((on, number, time)) = &mut state.stall
            && *on == op
        {
            *number = number.saturating_sub(1);
            if *number == 0 {
                delay = *time;
                state.stall = None;
            }
        }
        match state.per_second {
            Some(rate) => delay + Duration::from_secs_f64(bytes as f64 / rate as f64),
            None => delay,
        }
    }

    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        state.begin(Op::Read, offset..offset + bytes.len() as u64)?;
        match state.capacity {
            Capacity::True => state.store.read_exact_at(bytes, offset)?,
            _ => state.read_pages(offset, bytes)?,
        }
        if let Some(rot) = &state.rot
            && let Some(at) = bytes.windows(rot.len()).position(|window| window == rot)
        {
            bytes[at] ^= 0x04;
        }
        Ok(())
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.begin(Op::Write, offset..offset + bytes.len() as u64)?;
        if let Some(recorded) = &mut state.recorded {
            recorded.push(Entry::Write(offset, bytes.to_vec()));
        }
        if matches!(state.capacity, Capacity::True) {
            return state.store.write_all_at(bytes, offset);
        }
        state.write_pages(offset, bytes)
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        let mut state = self.state();
        state.begin(Op::Flush, 0..0)?;
        if let Some(recorded) = &mut state.recorded {
            recorded.push(Entry::Flush);
        }
        Ok(())
    }
}

impl State {
    fn begin(&mut self, op: Op, range: Range<u64>) -> io::Result<()> {
        if let Some((on, number)) = &mut self.yank
            && *on == op
        {
            *number = number.saturating_sub(1);
            self.gone |= *number == 0;
        }
        if self.gone {
            return Err(io::Error::other("pulled out"));
        }
        match op {
            Op::Read => self.reads += 1,
            Op::Write => self.writes += 1,
            Op::Flush => self.flushes += 1,
        }
        let touched = |bad: &&mut Bad| {
            bad.op == op && bad.times > 0 && bad.range.start < range.end && range.start < bad.range.end
        };
        match self.bad.iter_mut().find(touched) {
            Some(bad) => {
                bad.times -= 1;
                Err(io::Error::other("bad sector"))
            }
            None => Ok(()),
        }
    }

    fn write_pages(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (number, within) = (at / PAGE as u64, (at % PAGE as u64) as usize);
            let length = (PAGE - within).min(bytes.len() - done);
            let mut page = if length < PAGE { self.page(number)? } else { vec![0; PAGE] };
            page[within..within + length].copy_from_slice(&bytes[done..done + length]);
            if self.cache.insert(number, page).is_none() {
                self.order.push_back(number);
            }
            done += length;
        }
        while self.order.len() > self.cached {
            self.evict()?;
        }
        Ok(())
    }

    /// Puts the oldest page of its memory where it belongs, or where the lie puts it.
    fn evict(&mut self) -> io::Result<bool> {
        let Some(number) = self.order.pop_front() else { return Ok(false) };
        let bytes = self.cache.remove(&number).unwrap_or_default();
        let offset = number * PAGE as u64;
        match self.capacity {
            Capacity::Limbo(real) if offset >= real => {}
            Capacity::Wrap(real) => self.store.write_all_at(&bytes, offset % real)?,
            _ => self.store.write_all_at(&bytes, offset)?,
        }
        Ok(true)
    }

    fn read_pages(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let within = (at % PAGE as u64) as usize;
            let length = (PAGE - within).min(bytes.len() - done);
            let page = self.page(at / PAGE as u64)?;
            bytes[done..done + length].copy_from_slice(&page[within..within + length]);
            done += length;
        }
        Ok(())
    }

    /// What it says is on a page.
    fn page(&self, number: u64) -> io::Result<Vec<u8>> {
        if let Some(cached) = self.cache.get(&number) {
            return Ok(cached.clone());
        }
        let (offset, mut page) = (number * PAGE as u64, vec![0; PAGE]);
        match self.capacity {
            Capacity::Limbo(real) if offset >= real => {}
            Capacity::Wrap(real) => self.store.read_exact_at(&mut page, offset % real)?,
            _ => self.store.read_exact_at(&mut page, offset)?,
        }
        Ok(page)
    }
}
