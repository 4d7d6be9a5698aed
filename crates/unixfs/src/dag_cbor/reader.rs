//! Reads the items of DAG-CBOR one after the other, from a block in memory.

use ocipfs_block::Cid;

/// Lists and maps within each other.
const MAX_DEPTH: usize = 256;
const LINK_TAG: u64 = 42;

/// An item, without what is in it.
pub enum Head<'a> {
    /// A number that is not negative.
    Number(u64),
    /// A negative number: so many below -1.
    Negative(u64),
    Float(f64),
    Bytes(&'a [u8]),
    Text(&'a str),
    /// A list of so many items.
    List(usize),
    /// A map of so many keys and items.
    Map(usize),
    Link(Cid),
    Bool(bool),
    Null,
}

/// The bytes that are not read yet.
pub struct Reader<'a> {
    rest: &'a [u8],
    depth: usize,
}

impl<'a> Reader<'a> {
    pub fn new(block: &'a [u8]) -> Self {
        Self { rest: block, depth: 0 }
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Holds that all is read.
    pub fn end(&self) -> Result<(), String> {
        if self.rest.is_empty() { Ok(()) } else { Err("bytes follow after the value".into()) }
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], String> {
        let length = usize::try_from(length).map_err(|_| "the block ends early")?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("the block ends early")?;
        self.rest = rest;
        Ok(taken)
    }

    /// The major type and the argument of the next item.
    fn initial(&mut self) -> Result<(u8, u64, u8), String> {
        let byte = self.take(1)?[0];
        let (major, info) = (byte >> 5, byte & 0x1f);
        let argument = match info {
            0..=23 => u64::from(info),
            24..=27 => self.take(1 << (info - 24))?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            _ => return Err("an item has no definite length".into()),
        };
        Ok((major, argument, info))
    }

    /// Reads the next item, without what is in it.
    pub fn head(&mut self) -> Result<Head<'a>, String> {
        let (major, argument, info) = self.initial()?;
        Ok(match major {
            0 => Head::Number(argument),
            1 => Head::Negative(argument),
            2 => Head::Bytes(self.take(argument)?),
            3 => Head::Text(self.text(argument)?),
            // Each item has a byte at least.
            4 => Head::List(self.count(argument)?),
            5 => Head::Map(self.count(argument)?),
            6 => Head::Link(self.link(argument)?),
            _ => match info {
                20 => Head::Bool(false),
                21 => Head::Bool(true),
                22 => Head::Null,
                27 => Head::Float(finite(f64::from_bits(argument))?),
                26 => Head::Float(finite(f32::from_bits(argument as u32).into())?),
                _ => return Err("a value of an unknown kind".into()),
            },
        })
    }

    fn count(&self, count: u64) -> Result<usize, String> {
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= self.rest.len())
            .ok_or("the block ends early".into())
    }

    fn text(&mut self, length: u64) -> Result<&'a str, String> {
        std::str::from_utf8(self.take(length)?).map_err(|_| "a text is not UTF-8".into())
    }

    fn link(&mut self, tag: u64) -> Result<Cid, String> {
        let (major, length, _) = self.initial()?;
        if tag != LINK_TAG || major != 2 {
            return Err(format!("tag {tag} is not a link"));
        }
        let bytes = self.take(length)?.strip_prefix(&[0]).ok_or("a link does not begin with 0")?;
        Cid::try_from(bytes).map_err(|error| format!("a link is not a CID: {error}"))
    }

    /// Reads the key of the next entry of a map.
    pub fn key(&mut self) -> Result<&'a str, String> {
        match self.initial()? {
            (3, length, _) => self.text(length),
            _ => Err("a key of a map is not a text".into()),
        }
    }

    /// Reads so many items of a list or a map.
    pub fn each(
        &mut self,
        count: usize,
        mut read: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} lists and maps within each other"));
        }
        (0..count).try_for_each(|_| read(self))?;
        self.depth -= 1;
        Ok(())
    }

    /// Passes over the next item.
    pub fn skip(&mut self) -> Result<(), String> {
        match self.head()? {
            Head::List(count) => self.each(count, Self::skip),
            Head::Map(count) => self.each(count, |reader| {
                reader.key()?;
                reader.skip()
            }),
            _ => Ok(()),
        }
    }
}

fn finite(number: f64) -> Result<f64, String> {
    if number.is_finite() { Ok(number) } else { Err("a number that is not finite".into()) }
}
