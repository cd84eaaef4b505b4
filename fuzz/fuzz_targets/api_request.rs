#![no_main]

kite_fuzz::json_target!(api_request);
