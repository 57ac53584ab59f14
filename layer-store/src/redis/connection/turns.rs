use std::collections::VecDeque;

/// Calls that wait for their turn: each source in its own line, and the lines take turns.
///
/// So a flood of one layer's calls does not keep those of another waiting.
#[derive(Debug, Default)]
pub(super) struct Turns {
    lines: Vec<Line>,
    /// The line whose turn it is.
    next: usize,
    len: usize,
}

#[derive(Debug)]
struct Line {
    source: &'static str,
    slots: VecDeque<u32>,
}

impl Turns {
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push(&mut self, source: &'static str, slot: u32) {
        self.len += 1;
        match self.lines.iter_mut().find(|line| line.source == source) {
            Some(line) => line.slots.push_back(slot),
            // Sources are names in code, so there are few lines.
            None => self.lines.push(Line {
                source,
                slots: [slot].into(),
            }),
        }
    }

    pub(super) fn pop(&mut self) -> Option<u32> {
        for _ in 0..self.lines.len() {
            let line = self.next % self.lines.len();
            self.next = line + 1;
            if let Some(slot) = self.lines[line].slots.pop_front() {
                self.len -= 1;
                return Some(slot);
            }
        }
        None
    }

    /// Removes a call that waits no longer.
    pub(super) fn remove(&mut self, slot: u32) {
        for line in &mut self.lines {
            if let Some(at) = line.slots.iter().position(|waiting| *waiting == slot) {
                line.slots.remove(at);
                self.len -= 1;
                return;
            }
        }
    }

    /// Keeps the calls for which `keep` returns true.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) {
        for line in &mut self.lines {
            line.slots.retain(|slot| keep(*slot));
        }
        self.len = self.lines.iter().map(|line| line.slots.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_take_turns_and_each_keeps_its_order() {
        let mut turns = Turns::default();
        for slot in 0..4 {
            turns.push("limit", slot);
        }
        turns.push("cache", 10);
        turns.push("cache", 11);
        turns.remove(1);
        turns.remove(99);
        turns.retain(|slot| slot != 2);
        let order: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(order, [0, 10, 3, 11]);
        assert!(turns.is_empty());
        turns.push("limit", 5);
        assert_eq!(turns.pop(), Some(5));
        assert_eq!(turns.pop(), None);
    }
}
