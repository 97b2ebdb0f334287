//! A configuration file, and variables of the environment (one a line, `NAME=text`), over the shipped defaults. What is
//! refused is refused in words that can be read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::config::fuzzing::load;

fuzz_target!(|case: (&str, &str)| {
    let (file, variables) = case;
    let variables: Vec<_> = variables.lines().filter_map(|line| line.split_once('=')).collect();
    if let Err(error) = load(file, &variables) {
        assert!(!error.to_string().is_empty());
    }
});
