//! What stands on disk, as it is: frames, headers of segments, the watermark, archived segments.

#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::journal::fuzzing::raw;

fuzz_target!(|bytes: &[u8]| raw(bytes));
