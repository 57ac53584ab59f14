use crate::Value;

/// The output of a [`Program`](crate::Program): a number, bytes or nothing at each index.
///
/// Up to four numbers are kept inline and allocate nothing.
///
/// ```
/// use layer_store::{Output, Value};
///
/// let mut output = Output::ints(&[1, 7]);
/// output.push_value(Value::from("seven"));
/// assert_eq!(output.int(1), Some(7));
/// assert_eq!(output.value(2), Some(&Value::from("seven")));
/// assert_eq!(output.int(2), None);
/// ```
#[derive(Clone, Debug)]
pub struct Output(Items);

#[derive(Clone, Debug)]
enum Items {
    Ints(Ints),
    List(Vec<Item>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    /// Lua's `false`.
    Nil,
    Int(i64),
    Value(Value),
}

/// Up to four numbers.
#[derive(Clone, Copy, Debug)]
struct Ints {
    len: Len,
    at: [i64; MAX_INLINE],
}

/// An enum for its unused values, in which `Reply` keeps its own tag: 8 bytes less. A whole word, since a reply that is
/// copied byte by byte and read word by word stalls the processor at each step of its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Len {
    Zero,
    One,
    Two,
    Three,
    Four,
}

impl Output {
    /// Makes an output without elements, to push them.
    pub const fn new() -> Self {
        Self(Items::Ints(Ints {
            len: Len::Zero,
            at: [0; MAX_INLINE],
        }))
    }

    /// Makes an output of numbers.
    #[inline(always)]
    pub fn ints(numbers: &[i64]) -> Self {
        match Ints::new(numbers) {
            Some(ints) => Self(Items::Ints(ints)),
            None => Self(Items::List(
                numbers.iter().copied().map(Item::Int).collect(),
            )),
        }
    }

    /// Appends a number.
    pub fn push_int(&mut self, number: i64) {
        if let Items::Ints(ints) = &mut self.0
            && ints.push(number)
        {
            return;
        }
        self.push(Item::Int(number));
    }

    /// Appends bytes.
    pub fn push_value(&mut self, value: Value) {
        self.push(Item::Value(value));
    }

    /// Appends nothing: an element that is neither a number nor bytes. In Lua it is `false`.
    pub fn push_nil(&mut self) {
        self.push(Item::Nil);
    }

    /// Returns the number at `index`. `None` if there is no such element or it is not a number.
    #[inline]
    pub fn int(&self, index: usize) -> Option<i64> {
        match &self.0 {
            Items::Ints(ints) => ints.as_slice().get(index).copied(),
            Items::List(list) => match list.get(index)? {
                Item::Int(number) => Some(*number),
                Item::Nil | Item::Value(_) => None,
            },
        }
    }

    /// Returns all elements if they are at most four numbers, kept inline: the fast way to read such an output.
    #[inline]
    pub fn inline_ints(&self) -> Option<&[i64]> {
        match &self.0 {
            Items::Ints(ints) => Some(ints.as_slice()),
            Items::List(_) => None,
        }
    }

    /// Returns the bytes at `index`. `None` if there is no such element or it is not bytes.
    pub fn value(&self, index: usize) -> Option<&Value> {
        match &self.0 {
            Items::Ints(_) => None,
            Items::List(list) => match list.get(index)? {
                Item::Value(value) => Some(value),
                Item::Nil | Item::Int(_) => None,
            },
        }
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        match &self.0 {
            Items::Ints(ints) => ints.as_slice().len(),
            Items::List(list) => list.len(),
        }
    }

    /// Returns true if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push(&mut self, item: Item) {
        if let Items::Ints(ints) = &self.0 {
            let list = ints.as_slice().iter().copied().map(Item::Int).collect();
            self.0 = Items::List(list);
        }
        if let Items::List(list) = &mut self.0 {
            list.push(item);
        }
    }
}

impl Default for Output {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Output {
    /// Numbers are equal whether they are kept inline or in a list.
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Items::List(list), Items::List(others)) => list == others,
            _ => {
                self.len() == other.len()
                    && (0..self.len()).all(|i| self.int(i).is_some() && self.int(i) == other.int(i))
            }
        }
    }
}

impl Ints {
    #[inline(always)]
    fn new(numbers: &[i64]) -> Option<Self> {
        let len = Len::of(numbers.len())?;
        let mut at = [0; MAX_INLINE];
        at[..numbers.len()].copy_from_slice(numbers);
        Some(Self { len, at })
    }

    /// Returns false, and changes nothing, if there is no room.
    #[inline]
    fn push(&mut self, number: i64) -> bool {
        let index = self.len as usize;
        let Some(len) = Len::of(index + 1) else {
            return false;
        };
        self.at[index] = number;
        self.len = len;
        true
    }

    #[inline]
    fn as_slice(&self) -> &[i64] {
        &self.at[..self.len as usize]
    }
}

impl Len {
    #[inline(always)]
    const fn of(len: usize) -> Option<Self> {
        match len {
            0 => Some(Self::Zero),
            1 => Some(Self::One),
            2 => Some(Self::Two),
            3 => Some(Self::Three),
            4 => Some(Self::Four),
            _ => None,
        }
    }
}

/// The most numbers that are kept inline.
const MAX_INLINE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_number_or_anything_else_moves_the_elements_to_a_list() {
        let mut output = Output::ints(&[1, 2, 3]);
        output.push_int(4);
        assert_eq!(output.inline_ints(), Some(&[1, 2, 3, 4][..]));
        output.push_int(5);
        assert_eq!(output, Output::ints(&[1, 2, 3, 4, 5]));
        assert_eq!(output.inline_ints(), None);
        output.push_nil();
        output.push_value(Value::from("a"));
        assert_eq!(output.len(), 7);
        assert_eq!(
            (output.int(4), output.int(5), output.int(7)),
            (Some(5), None, None)
        );
        assert_eq!(output.value(6), Some(&Value::from("a")));
        assert_eq!((output.value(0), output.value(5)), (None, None));
        assert!(!output.is_empty() && Output::new().is_empty());
    }

    #[test]
    fn numbers_are_equal_inline_and_in_a_list() {
        let mut list = Output::new();
        list.push(Item::Int(1));
        list.push(Item::Int(2));
        assert_eq!(list.inline_ints(), None);
        assert_eq!(list, Output::ints(&[1, 2]));
        assert_ne!(list, Output::ints(&[1, 3]));
        assert_ne!(list, Output::ints(&[1]));
        list.push_nil();
        assert_ne!(list, Output::ints(&[1, 2, 0]));
    }

    #[test]
    fn the_length_is_the_number_of_elements() {
        for len in 0..7 {
            let numbers: Vec<i64> = (0..len).collect();
            let mut pushed = Output::default();
            for number in &numbers {
                pushed.push_int(*number);
            }
            let output = Output::ints(&numbers);
            assert_eq!(output, pushed);
            assert_eq!((output.len(), pushed.len()), (numbers.len(), numbers.len()));
            assert_eq!(output.is_empty(), len == 0);
            assert_eq!(output.inline_ints().is_some(), len <= 4);
            assert_eq!(output.int(numbers.len()), None);
        }
    }
}
