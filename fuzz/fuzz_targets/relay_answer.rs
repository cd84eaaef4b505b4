#![no_main]

kite_fuzz::json_target!(relay_answer);
