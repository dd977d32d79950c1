use super::*;

fn skipped(input: &[u8]) -> Result<usize, Fault> {
    let mut reader = Reader::new(input);
    reader.skip().map(|()| reader.offset())
}

#[test]
fn skip_ends_where_rmp_says_for_every_marker() {
    for byte in 0..=u8::MAX {
        // Zeros follow: they are a small length, a payload, or the elements, whichever is due.
        let mut input = [0u8; 40];
        input[0] = byte;
        let own = match Marker::from_u8(byte) {
            Marker::Reserved => {
                assert!(skipped(&input).is_err());
                continue;
            }
            Marker::FixMap(n) => 2 * usize::from(n),
            Marker::FixArray(n) | Marker::FixStr(n) => usize::from(n),
            Marker::U8 | Marker::I8 | Marker::Str8 | Marker::Bin8 => 1,
            Marker::U16 | Marker::I16 | Marker::Str16 | Marker::Bin16 => 2,
            Marker::Array16 | Marker::Map16 | Marker::FixExt1 | Marker::Ext8 => 2,
            Marker::FixExt2 | Marker::Ext16 => 3,
            Marker::U32 | Marker::I32 | Marker::F32 | Marker::Str32 | Marker::Bin32 => 4,
            Marker::Array32 | Marker::Map32 => 4,
            Marker::FixExt4 | Marker::Ext32 => 5,
            Marker::U64 | Marker::I64 | Marker::F64 => 8,
            Marker::FixExt8 => 9,
            Marker::FixExt16 => 17,
            _ => 0,
        };
        assert_eq!(skipped(&input).unwrap(), 1 + own, "marker {byte:#04x}");
        for cut in 0..=own {
            assert!(skipped(&input[..cut]).is_err(), "marker {byte:#04x} cut to {cut}");
        }
    }
}

#[test]
fn a_header_is_believed_only_as_far_as_bytes_are_left() {
    for header in [0xdc, 0xdd, 0xde, 0xdf] {
        let input = [header, 0xff, 0xff, 0xff, 0xff, 0, 0];
        assert!(skipped(&input).is_err());
        assert!(Reader::new(&input).array("").is_err());
        assert!(Reader::new(&input).map("").is_err());
    }
    for header in [0xc6, 0xdb, 0xc9] {
        assert!(skipped(&[header, 0xff, 0xff, 0xff, 0xff, 0, 0]).is_err());
    }
}

#[test]
fn integers_of_every_width_keep_their_value() {
    let cases: [(&[u8], Number); 10] = [
        (&[0x7f], Number::Unsigned(127)),
        (&[0xe0], Number::Negative(-32)),
        (&[0xcc, 0xff], Number::Unsigned(255)),
        (&[0xcd, 0xff, 0xff], Number::Unsigned(65535)),
        (&[0xce, 0xff, 0xff, 0xff, 0xff], Number::Unsigned(0xffff_ffff)),
        (&[0xcf, 0xff, 0, 0, 0, 0, 0, 0, 1], Number::Unsigned(0xff00_0000_0000_0001)),
        (&[0xd0, 0x80], Number::Negative(-128)),
        (&[0xd1, 0x80, 0], Number::Negative(-32768)),
        (&[0xd2, 0, 0, 0, 5], Number::Unsigned(5)),
        (&[0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Number::Negative(-1)),
    ];
    for (input, expected) in cases {
        assert_eq!(Reader::new(input).number("a number").unwrap(), expected);
    }
}
