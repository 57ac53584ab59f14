//! The atomic steps of permits, each a Lua body and its Rust twin.
//!
//! All permits of an identity are one value: a record for each, in the order of their ends. See `lua/permits.lua`.

use layer_store::{Arg, Output, Program, Retention, Transaction, Ttl};

use super::token::Token;

/// Takes a permit, if fewer than the limit are held. Arguments: limit, lease, token. See `lua/take.lua`.
pub(crate) static TAKE: Program = Program::new(
    "permit_take",
    concat!(
        include_str!("lua/permits.lua"),
        include_str!("lua/take.lua")
    ),
    Retention::Pinned,
    |transaction, args| take(transaction, args).unwrap_or_else(malformed),
)
// `TIME`, `GET` and `SET`.
.billed(1, 2);

/// Renews the permits of one process. Arguments: lease, tokens. See `lua/renew.lua`.
pub(crate) static RENEW: Program = Program::new(
    "permit_renew",
    concat!(
        include_str!("lua/permits.lua"),
        include_str!("lua/renew.lua")
    ),
    Retention::Pinned,
    |transaction, args| renew(transaction, args).unwrap_or_else(malformed),
)
.billed(1, 2);

/// Gives permits back. Argument: tokens. See `lua/give_back.lua`.
pub(crate) static GIVE_BACK: Program = Program::new(
    "permit_give_back",
    concat!(
        include_str!("lua/permits.lua"),
        include_str!("lua/give_back.lua")
    ),
    Retention::Pinned,
    |transaction, args| give_back(transaction, args).unwrap_or_else(malformed),
)
.billed(1, 2);

fn take(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Option<Output> {
    let [limit, lease, token] = args else {
        return None;
    };
    let mut records = Records::read(transaction)?;
    let at = records.now + number(lease);
    let is_cut = records.cut(at)?;
    // ## Read => taken | refused
    let is_taken = (records.count() as u64) < number(limit);
    if is_taken {
        records.insert(token.bytes()?, at)?;
    }
    let reply = Output::ints(&[i64::from(is_taken), records.count() as i64]);
    // ## Refused => nothing is written, but for a cut
    // A cut that is not kept would be made again at each refusal, and lock the identity out until the old ends.
    if is_taken || is_cut {
        records.keep(transaction)?;
    }
    Some(reply)
}

fn renew(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Option<Output> {
    let [lease, tokens] = args else {
        return None;
    };
    let mut records = Records::read(transaction)?;
    let (at, tokens) = (records.now + number(lease), tokens.bytes()?);
    let mut gone = 0;
    for token in tokens.chunks(Token::LEN) {
        gone += i64::from(!records.remove(token));
    }
    records.insert(tokens, at)?;
    records.keep(transaction)?;
    Some(Output::ints(&[gone]))
}

fn give_back(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Option<Output> {
    let mut records = Records::read(transaction)?;
    let mut held = 0;
    for token in args.first()?.bytes()?.chunks(Token::LEN) {
        held += i64::from(records.remove(token));
    }
    if held > 0 {
        records.keep(transaction)?;
    }
    Some(Output::ints(&[held]))
}

/// The records of an identity that have not expired, in the order of their ends.
struct Records {
    /// The time, in Unix milliseconds.
    now: u64,
    text: Vec<u8>,
}

impl Records {
    /// Reads the records, without those that have expired. `None`, here and below: the value is not of this form.
    fn read(transaction: &Transaction<'_>) -> Option<Self> {
        let now = transaction.now() / 1_000;
        let mut this = Self {
            now,
            text: Vec::new(),
        };
        let Some(value) = transaction.get(0) else {
            return Some(this);
        };
        value.with_bytes(|text| {
            if text.len() % RECORD != 0 {
                return None;
            }
            let mut expired = 0;
            while expired < text.len() && ends(&text[expired..])? <= now {
                expired += RECORD;
            }
            let live = &text[expired..];
            this.text.reserve_exact(live.len() + RECORD);
            this.text.extend_from_slice(live);
            Some(this)
        })
    }

    const fn count(&self) -> usize {
        self.text.len() / RECORD
    }

    /// Returns the place behind the last record that ends at `at` or before.
    fn place(&self, at: u64) -> Option<usize> {
        let mut place = self.text.len();
        while place > 0 && ends(&self.text[place - RECORD..])? > at {
            place -= RECORD;
        }
        Some(place)
    }

    /// Lets no record end after `at`, if one ends more than a second later: a clock ran backwards. Returns true if it did.
    ///
    /// Less comes from two nodes that read the time out of order.
    fn cut(&mut self, at: u64) -> Option<bool> {
        let Some(last) = self.text.len().checked_sub(RECORD) else {
            return Some(false);
        };
        if ends(&self.text[last..])? <= at + SLACK {
            return Some(false);
        }
        let place = self.place(at)?;
        for record in self.text[place..].chunks_mut(RECORD) {
            record[Token::LEN..].copy_from_slice(&digits(at));
        }
        Some(true)
    }

    /// Puts in a record for each of the tokens, which end at `at`.
    fn insert(&mut self, tokens: &[u8], at: u64) -> Option<()> {
        let place = self.place(at)?;
        let behind = self.text.split_off(place);
        let count = tokens.len() / Token::LEN;
        // Exactly, so that the value takes the bytes as they are.
        self.text.reserve_exact(count * RECORD + behind.len());
        for token in tokens.chunks(Token::LEN) {
            self.text.extend_from_slice(token);
            self.text.extend_from_slice(&digits(at));
        }
        self.text.extend_from_slice(&behind);
        Some(())
    }

    /// Returns true if there was such a record.
    fn remove(&mut self, token: &[u8]) -> bool {
        let mut records = self.text.chunks(RECORD);
        let Some(index) = records.position(|record| record.starts_with(token)) else {
            return false;
        };
        let place = index * RECORD;
        self.text.drain(place..place + RECORD);
        true
    }

    /// Writes the records until the last of them ends.
    fn keep(self, transaction: &mut Transaction<'_>) -> Option<()> {
        let last = match self.text.len().checked_sub(RECORD) {
            Some(last) => ends(&self.text[last..])?,
            None => 0,
        };
        match Ttl::from_millis(last.saturating_sub(self.now)) {
            Some(ttl) => transaction.set(0, self.text.into(), ttl),
            None => transaction.delete(0),
        }
        Some(())
    }
}

/// Reads the end of the first of these records.
fn ends(records: &[u8]) -> Option<u64> {
    let digits = records.get(Token::LEN..RECORD)?;
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number * 10 + u64::from(digit - b'0')),
        _ => None,
    })
}

/// Writes an end, in Unix milliseconds.
fn digits(at: u64) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    let mut left = at;
    for digit in digits.iter_mut().rev() {
        *digit += (left % 10) as u8;
        left /= 10;
    }
    digits
}

fn number(arg: &Arg<'_>) -> u64 {
    arg.int().map_or(0, |number| number.max(0) as u64)
}

fn malformed() -> Output {
    Output::ints(&[-1])
}

/// The length of an end: until the year 2286.
const DIGITS: usize = 13;
/// The length of a record.
const RECORD: usize = Token::LEN + DIGITS;
/// The milliseconds by which a record may end later than one that is made now.
const SLACK: u64 = 1_000;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
