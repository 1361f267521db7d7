//! The format of a segment, as a pure function from records to bytes and back. The crate's documentation has the table.

const MAGIC: &[u8; 8] = b"FOOTFALL";
const VERSION: u32 = 1;
pub(crate) const RECORD_HEADER_BYTES: usize = 12;
const ALIGN: usize = 8;

/// Where the first record begins.
pub(crate) const HEADER_BYTES: usize = 32;

/// Where a record is. Ordered as the records were appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

impl Location {
    /// The length of the payload in bytes.
    pub fn payload_bytes(self) -> u32 {
        self.length
    }

    /// The payload, in the bytes of the whole segment it was found in.
    pub(crate) fn payload(self, segment: &[u8]) -> &[u8] {
        let begin = self.offset as usize + RECORD_HEADER_BYTES;
        &segment[begin..begin + self.length as usize]
    }
}

/// A stretch of a segment that is no valid record although there are valid ones behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// The segment's sequence number, as in its file name.
    pub segment: u32,
    /// Where in the segment it begins, in bytes. 0 is the segment's header: no record is lost by that.
    pub offset: u32,
    /// Up to where the next valid record begins, in bytes. This can be more than one record.
    pub bytes: u32,
}

/// What is in a segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) records: Vec<Location>,
    pub(crate) damaged: Vec<Damage>,
    /// What is behind the last valid record, without the zeros at the end.
    pub(crate) torn_bytes: u32,
}

/// Which segment it is. Also the secret that makes its records its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentId {
    pub(crate) life: u64,
    pub(crate) shard: u16,
    pub(crate) sequence: u32,
}

impl SegmentId {
    /// The file, as a [`Disk`](crate::Disk) knows it.
    pub(crate) fn path(self) -> String {
        format!("{}/s{}-{}.journal", life_name(self.life), self.shard, self.sequence)
    }

    /// The segment's first bytes.
    pub(crate) fn header(self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&u32::from(self.shard).to_le_bytes());
        header[16..24].copy_from_slice(&self.life.to_le_bytes());
        header[24..28].copy_from_slice(&self.sequence.to_le_bytes());
        let crc = crc32c::crc32c(&header[..28]);
        header[28..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// A record for exactly this offset, which must be a multiple of 8.
    pub(crate) fn encode(self, offset: u32, payload: &[u8]) -> Vec<u8> {
        let record_bytes = record_bytes(payload.len()).expect("the caller asked for the size before");
        let length = u32::try_from(payload.len()).expect("a record is below 4 GiB and longer than its payload");
        let mut record = Vec::with_capacity(record_bytes as usize);
        record.extend_from_slice(&self.mark().to_le_bytes());
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&self.crc(offset, payload).to_le_bytes());
        record.extend_from_slice(payload);
        record.resize(record_bytes as usize, 0);
        record
    }

    /// The payload of the record at `offset`, which is where `bytes` begin, if it is valid.
    pub(crate) fn decode(self, offset: u32, bytes: &[u8]) -> Option<&[u8]> {
        let (header, rest) = bytes.split_at_checked(RECORD_HEADER_BYTES)?;
        if word(header, 0) != self.mark() {
            return None;
        }
        let payload = rest.get(..word(header, 4) as usize)?;
        (word(header, 8) == self.crc(offset, payload)).then_some(payload)
    }

    /// Finds all valid records. Fails, with the reason, when this is another segment or another version of the format.
    pub(crate) fn scan(self, bytes: &[u8]) -> Result<Scan, &'static str> {
        u32::try_from(bytes.len()).map_err(|_| "it is longer than any segment")?;
        let mut scan = Scan::default();
        let header_is_valid = self.check_header(bytes)?;
        // Up to here everything is accounted for.
        let mut known = HEADER_BYTES;
        let mut at = HEADER_BYTES;
        let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        while at < used {
            let offset = at as u32;
            let Some(payload) = self.decode(offset, &bytes[at..]) else {
                // Nothing in the bytes of a damaged record can be trusted, its length included.
                at += ALIGN;
                continue;
            };
            if known < at {
                scan.damaged.push(Damage { segment: self.sequence, offset: known as u32, bytes: (at - known) as u32 });
            }
            let length = payload.len() as u32;
            scan.records.push(Location { segment: self.sequence, offset, length });
            at += (RECORD_HEADER_BYTES + payload.len()).next_multiple_of(ALIGN);
            known = at;
        }
        let torn_from = if scan.records.is_empty() && !header_is_valid { 0 } else { known };
        scan.torn_bytes = used.saturating_sub(torn_from) as u32;
        if !scan.records.is_empty() && !header_is_valid {
            let header = Damage { segment: self.sequence, offset: 0, bytes: HEADER_BYTES as u32 };
            scan.damaged.insert(0, header);
        }
        Ok(scan)
    }

    /// False when the header is damaged or was never written: the file's name says what it would have said.
    fn check_header(self, bytes: &[u8]) -> Result<bool, &'static str> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(false) };
        if !header.starts_with(MAGIC) || word(header, 28) != crc32c::crc32c(&header[..28]) {
            return Ok(false);
        }
        // Records of another version would look like damage, and be cleared away as such.
        if word(header, 8) != VERSION {
            return Err("its format has another version");
        }
        if *header == self.header() { Ok(true) } else { Err("it belongs to another life, shard or sequence") }
    }

    fn mark(self) -> u32 {
        word(&self.header(), 28) | 1
    }

    fn crc(self, offset: u32, payload: &[u8]) -> u32 {
        let mut place = [0; 12];
        place[..4].copy_from_slice(&self.mark().to_le_bytes());
        place[4..8].copy_from_slice(&offset.to_le_bytes());
        place[8..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&place), payload)
    }
}

/// The space a payload takes in a segment; `None` if no segment can hold it.
pub(crate) fn record_bytes(payload_bytes: usize) -> Option<u32> {
    let bytes = payload_bytes.checked_add(RECORD_HEADER_BYTES)?.checked_next_multiple_of(ALIGN)?;
    u32::try_from(bytes.checked_add(HEADER_BYTES)?).ok()?;
    u32::try_from(bytes).ok()
}

/// The folder of a life.
pub(crate) fn life_name(life: u64) -> String {
    format!("{life:016x}")
}

/// The life a folder belongs to, if it is one's.
pub(crate) fn parse_life(name: &str) -> Option<u64> {
    let life = u64::from_str_radix(name, 16).ok()?;
    (life_name(life) == name).then_some(life)
}

/// The shard and the sequence number of a segment's file name, if it is one's.
pub(crate) fn parse_segment(life: u64, name: &str) -> Option<SegmentId> {
    let (shard, sequence) = name.strip_prefix('s')?.strip_suffix(".journal")?.split_once('-')?;
    let id = SegmentId { life, shard: shard.parse().ok()?, sequence: sequence.parse().ok()? };
    id.path().ends_with(&format!("/{name}")).then_some(id)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: SegmentId = SegmentId { life: 0x0123_4567_89ab_cdef, shard: 3, sequence: 7 };

    /// A segment with these payloads and some unused space, and where its records are.
    fn segment(payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<Location>) {
        let mut bytes = ID.header().to_vec();
        let mut records = vec![];
        for payload in payloads {
            let offset = bytes.len() as u32;
            records.push(Location { segment: ID.sequence, offset, length: payload.len() as u32 });
            bytes.extend(ID.encode(offset, payload));
        }
        bytes.resize(bytes.len() + 40, 0);
        (bytes, records)
    }

    /// Of lengths that leave all kinds of gaps, with zeros at the ends.
    fn payloads() -> Vec<Vec<u8>> {
        [0, 1, 4, 12, 20, 31].map(|length| (0..length).map(|i| (i % 5) as u8).collect()).to_vec()
    }

    #[test]
    fn every_flipped_bit_costs_at_most_its_record() {
        let (bytes, records) = segment(&payloads());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let scan = ID.scan(&flipped).expect("it is this segment");

            let at = (bit / 8) as u32;
            let hit = records.iter().position(|record| {
                (record.offset..record.offset + RECORD_HEADER_BYTES as u32 + record.length).contains(&at)
            });
            let mut expected = records.clone();
            let mut damaged = vec![];
            if let Some(hit) = hit {
                expected.remove(hit);
                match records.get(hit + 1) {
                    Some(next) => damaged.push((records[hit].offset, next.offset - records[hit].offset)),
                    None => assert!(scan.torn_bytes > 0, "bit {bit}"),
                }
            } else if (at as usize) < HEADER_BYTES {
                damaged.push((0, HEADER_BYTES as u32));
            } else {
                assert_eq!(bytes[at as usize], 0, "only unused zeros belong to nobody");
            }
            assert_eq!(scan.records, expected, "bit {bit}");
            let found: Vec<_> = scan.damaged.iter().map(|damage| (damage.offset, damage.bytes)).collect();
            assert_eq!(found, damaged, "bit {bit}");
        }
    }

    #[test]
    fn a_segment_cut_anywhere_is_a_prefix() {
        let (bytes, records) = segment(&payloads());
        for length in 0..=bytes.len() {
            for zeros in [0, bytes.len() - length] {
                let mut cut = bytes[..length].to_vec();
                cut.resize(length + zeros, 0);
                let scan = ID.scan(&cut).expect("it is this segment");
                // What is cut off may have been zeros.
                let whole = |record: &&Location| {
                    let end = record.offset as usize + RECORD_HEADER_BYTES + record.length as usize;
                    end <= length || end <= cut.len() && cut[..end] == bytes[..end]
                };
                let expected: Vec<_> = records.iter().filter(whole).copied().collect();
                assert_eq!(scan.records, expected, "{length}");
                assert_eq!(scan.damaged, [], "{length}");
                assert!(scan.torn_bytes as usize <= length, "{length}");
            }
        }
        assert_eq!(ID.scan(&bytes).map(|scan| scan.torn_bytes), Ok(0));
        assert_eq!(ID.scan(&vec![0; 4096]), Ok(Scan::default()), "a spare that was never used");
    }

    #[test]
    fn a_payload_cannot_plant_a_record() {
        // Whole records of this segment and of another one, at all alignments, inside a payload.
        let other = SegmentId { life: ID.life + 1, ..ID };
        let mut payload = vec![];
        for gap in 0..8 {
            payload.resize(payload.len() + gap, 0xff);
            payload.extend(ID.encode(32, b"planted"));
            payload.extend(other.encode(32 + 12 + payload.len() as u32, b"planted"));
        }
        let (mut bytes, records) = segment(&[payload, b"behind".to_vec()]);
        bytes[HEADER_BYTES + 4] ^= 1;
        assert_eq!(ID.scan(&bytes).expect("it is this segment").records, records[1..]);
    }

    #[test]
    fn other_segments_and_versions_are_left_alone() {
        let (mut bytes, _) = segment(&payloads());
        let other = SegmentId { sequence: 8, ..ID };
        assert_eq!(other.scan(&bytes), Err("it belongs to another life, shard or sequence"));
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..28]);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(ID.scan(&bytes), Err("its format has another version"));
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        assert_eq!(ID.path(), "0123456789abcdef/s3-7.journal");
        assert_eq!(parse_segment(ID.life, "s3-7.journal"), Some(ID));
        for name in ["s03-7.journal", "s3-+7.journal", "s3-7", "s70000-1.journal", "lock"] {
            assert_eq!(parse_segment(ID.life, name), None, "{name}");
        }
        assert_eq!(parse_life("0123456789abcdef"), Some(ID.life));
        for name in ["123456789abcdef", "0123456789ABCDEF", "+123456789abcdef", "damaged", ""] {
            assert_eq!(parse_life(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn damage_anywhere_never_invents_a_record(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8),
            begin in 0_usize..700,
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let (mut bytes, records) = segment(&payloads);
            let begin = begin.min(bytes.len());
            let end = (begin + noise.len()).min(bytes.len());
            let before = bytes.clone();
            bytes[begin..end].copy_from_slice(&noise[..end - begin]);
            let scan = ID.scan(&bytes).expect("noise has no valid header");
            let is_intact = |record: &&Location| {
                let range = record.offset as usize
                    ..record.offset as usize + RECORD_HEADER_BYTES + record.length as usize;
                bytes[range.clone()] == before[range]
            };
            let intact: Vec<_> = records.iter().filter(is_intact).copied().collect();
            prop_assert_eq!(scan.records, intact);
        }
    }
}
