//! The codecs alone, without the checksum that protects a piece in its file: whole, or an error, or the same again.

use proptest::prelude::*;
use pugdb_core::ErrorKind;

use super::*;

const ALL: [Compression; 7] = [
    Compression::None,
    Compression::Lz4,
    Compression::Snappy,
    Compression::ZSTD,
    Compression::Zstd { level: 9 },
    Compression::Gzip { level: 1 },
    Compression::Gzip { level: 9 },
];

fn packed(compressor: &mut Compressor, content: &[u8]) -> Vec<u8> {
    let mut data = b"before".to_vec();
    data.extend_from_slice(content);
    compressor.pack(&mut data, 6);
    assert_eq!(&data[..6], b"before");
    data.split_off(6)
}

fn unpacked(packed: &[u8]) -> Result<Bytes> {
    unpack(BytesMut::from(packed))
}

/// Random bytes, words out of a few, one byte over and over, and rows of what looks like JSON.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    let words =
        prop::collection::vec(prop::sample::select(vec!["ada ", "grace ", "edsger ", "\0", "1815"]), 0..400);
    let rows = prop::collection::vec((any::<u32>(), any::<bool>()), 0..100).prop_map(|rows| {
        let row = |(id, on): (u32, bool)| format!("{{\"id\":{id},\"name\":\"user{}\",\"on\":{on}}}", id % 97);
        rows.into_iter().map(row).collect::<String>().into_bytes()
    });
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..3000),
        words.prop_map(|words| words.concat().into_bytes()),
        (any::<u8>(), 0..100_000_usize).prop_map(|(byte, length)| vec![byte; length]),
        rows,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_codec_gives_back_what_it_was_given(contents in prop::collection::vec(contents(), 1..4)) {
        for compression in ALL {
            // One compressor for all of them, as a writer has it.
            let mut compressor = Compressor::new(compression).unwrap();
            for content in &contents {
                let packed = packed(&mut compressor, content);
                prop_assert!(packed.len() <= content.len() + CODEC_BYTES);
                if packed.last() != Some(&0) {
                    prop_assert!(packed.len() * 100 <= content.len() * (100 - GAIN_PERCENT_MIN) + 100);
                }
                prop_assert_eq!(&unpacked(&packed).unwrap()[..], &content[..]);
            }
        }
    }

    #[test]
    fn cut_and_flipped_bytes_are_an_error_or_content_of_the_length_they_say(
        content in contents(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
    ) {
        for compression in ALL {
            let mut damaged = packed(&mut Compressor::new(compression).unwrap(), &content);
            for (at, byte) in &flips {
                let at = at.index(damaged.len());
                damaged[at] = *byte;
            }
            check_hostile(&damaged);
            damaged.truncate(end.index(damaged.len()));
            check_hostile(&damaged);
        }
    }

    #[test]
    fn any_bytes_are_an_error_or_content_of_the_length_they_say(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        length in 0..5000_u32,
        codec in 0..6_u8,
    ) {
        let mut hostile = bytes;
        hostile.extend_from_slice(&length.to_le_bytes());
        hostile.push(codec);
        check_hostile(&hostile);
    }
}

fn check_hostile(hostile: &[u8]) {
    match unpacked(hostile) {
        Ok(content) if hostile.last() == Some(&0) => assert_eq!(content[..], hostile[..hostile.len() - 1]),
        Ok(content) => {
            let said = hostile[hostile.len() - TRAILER_BYTES..].first_chunk::<4>().unwrap();
            assert_eq!(content.len(), u32::from_le_bytes(*said) as usize);
        }
        Err(error) => {
            let is_codec = hostile.last().is_none_or(|codec| Codec::from_number(*codec).is_some());
            assert_eq!(error.kind(), if is_codec { ErrorKind::Corrupt } else { ErrorKind::Unsupported });
        }
    }
}

#[test]
fn what_gains_too_little_stays_as_it_is() {
    let mut rng = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = (0..8192).map(|_| rng.u8(..)).collect();
    for compression in ALL {
        let mut compressor = Compressor::new(compression).unwrap();
        // A tenth of it is alike: less than what a read should pay for.
        let mut little = noise.clone();
        little[..800].fill(7);
        for content in [&noise, &little, &b"ab".to_vec(), &Vec::new()] {
            let packed = packed(&mut compressor, content);
            assert_eq!((packed.len(), packed.last()), (content.len() + 1, Some(&0)), "{compression}");
        }
        let mut much = noise.clone();
        much[..4000].fill(7);
        let packed = packed(&mut compressor, &much);
        let codec = compression.to_bytes()[0];
        assert_eq!(packed.last(), Some(&codec), "{compression}");
        assert_eq!(packed.len() > 5000, compression == Compression::None);
    }
}

#[test]
fn few_bytes_never_stand_for_more_than_a_block() {
    let alike = || vec![7; BLOCK_BYTES_MAX + 1];
    for compression in ALL {
        let mut compressor = Compressor::new(compression).unwrap();
        // Zstandard would make a few KiB of it.
        let packed = packed(&mut compressor, &alike());
        assert!(alike().len() <= content_bytes_max(packed.len()), "{compression}");
        assert_eq!(unpacked(&packed).unwrap(), alike());
    }
    // It would decompress, and is refused before it does.
    let mut bomb = ::zstd::bulk::compress(&alike(), 1).unwrap();
    bomb.extend_from_slice(&u32::try_from(alike().len()).unwrap().to_le_bytes());
    bomb.push(Codec::Zstd as u8);
    assert_eq!(unpacked(&bomb).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(content_bytes_max(usize::MAX), CONTENT_BYTES_MAX);
}

#[test]
fn a_codec_that_came_later_is_of_a_newer_version_and_no_damage() {
    for codec in 5..=u8::MAX {
        for packed in [vec![codec], [&[7; 40][..], &[40, 0, 0, 0, codec]].concat()] {
            assert_eq!(unpacked(&packed).unwrap_err().kind(), ErrorKind::Unsupported, "{codec}");
        }
    }
}

#[test]
fn content_of_another_length_than_is_said_is_an_error() {
    let content = b"always the same, ".repeat(50);
    for compression in &ALL[1..] {
        let packed = packed(&mut Compressor::new(*compression).unwrap(), &content);
        let length = packed.len() - TRAILER_BYTES;
        for wrong in [0, 1, 849, 851, 1000, u32::MAX] {
            let mut lying = packed.clone();
            lying[length..length + 4].copy_from_slice(&wrong.to_le_bytes());
            assert_eq!(unpacked(&lying).unwrap_err().kind(), ErrorKind::Corrupt, "{compression}: {wrong}");
        }
    }
}

#[test]
fn compressions_are_written_and_read_as_words_and_as_bytes() {
    for compression in ALL {
        assert_eq!(compression.to_string().parse::<Compression>().unwrap(), compression);
        assert_eq!(Compression::from_bytes(compression.to_bytes()).unwrap(), compression);
    }
    for text in ["", "lz5", "lz4:1", "zstd:", "zstd:0", "zstd:20", "zstd:300", "gzip:10", "none:0", "LZ4"] {
        assert_eq!(text.parse::<Compression>().unwrap_err().kind(), ErrorKind::Invalid, "{text}");
    }
    for bytes in [[5, 0], [0, 1], [1, 1], [2, 7], [3, 0], [3, 20], [4, 0], [4, 10], [255, 255]] {
        assert_eq!(Compression::from_bytes(bytes).unwrap_err().kind(), ErrorKind::Unsupported, "{bytes:?}");
    }
}
