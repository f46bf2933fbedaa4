//! Usage: route ROUTER_DIRECTORY PROMPTS. Routes each line of the file PROMPTS and prints win rate, model and prompt.
//!
//! No crate is needed: `rustc main.rs -L LIBRARY_FOLDER -l routellm_fast`, as examples/run.sh does.

use std::error::Error;
use std::ffi::{c_char, c_int, c_uint, c_void, CStr, CString};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ptr;

const ABI_VERSION: u32 = 1;

/// The declarations of routellm_fast.h that this program uses.
mod ffi {
    use super::{c_char, c_int, c_uint, c_void};

    #[repr(C)]
    pub struct Router {
        _private: [u8; 0],
    }

    extern "C" {
        pub fn routellm_abi_version() -> u32;
        pub fn routellm_last_error() -> *const c_char;
        pub fn routellm_load(directory: *const c_char, options: *const c_void, out: *mut *mut Router) -> c_uint;
        pub fn routellm_free(router: *mut Router);
        pub fn routellm_strong_model(router: *const Router) -> *const c_char;
        pub fn routellm_weak_model(router: *const Router) -> *const c_char;
        pub fn routellm_threshold_for(router: *const Router, strong_share: f64, threshold: *mut f64) -> c_uint;
        pub fn routellm_route(
            router: *const Router,
            text: *const c_char,
            bytes: usize,
            threshold: f64,
            win_rate: *mut f32,
            is_strong: *mut c_int,
        ) -> c_uint;
    }
}

/// A loaded router; freed when it is dropped.
struct Router(*mut ffi::Router);

// routellm_fast.h promises that a router is immutable and that any number of threads may use it.
unsafe impl Send for Router {}
unsafe impl Sync for Router {}

fn text_of(pointer: *const c_char) -> String {
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

fn checked(status: c_uint) -> Result<(), Box<dyn Error>> {
    match status {
        0 => Ok(()),
        _ => Err(text_of(unsafe { ffi::routellm_last_error() }).into()),
    }
}

impl Router {
    fn load(directory: &str) -> Result<Router, Box<dyn Error>> {
        let path = CString::new(directory)?;
        let mut router = Router(ptr::null_mut());
        checked(unsafe { ffi::routellm_load(path.as_ptr(), ptr::null(), &mut router.0) })?;
        Ok(router)
    }

    fn threshold_for(&self, strong_share: f64) -> Result<f64, Box<dyn Error>> {
        let mut threshold = 0.0;
        checked(unsafe { ffi::routellm_threshold_for(self.0, strong_share, &mut threshold) })?;
        Ok(threshold)
    }

    fn route(&self, prompt: &str, threshold: f64) -> Result<(f32, String), Box<dyn Error>> {
        let (mut win_rate, mut is_strong) = (0.0, 0);
        checked(unsafe {
            let text = prompt.as_ptr().cast();
            ffi::routellm_route(self.0, text, prompt.len(), threshold, &mut win_rate, &mut is_strong)
        })?;
        let model = unsafe {
            if is_strong != 0 {
                ffi::routellm_strong_model(self.0)
            } else {
                ffi::routellm_weak_model(self.0)
            }
        };
        Ok((win_rate, text_of(model)))
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        unsafe { ffi::routellm_free(self.0) }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, prompts] = arguments.as_slice() else {
        return Err("usage: route ROUTER_DIRECTORY PROMPTS".into());
    };
    let found = unsafe { ffi::routellm_abi_version() };
    if found != ABI_VERSION {
        return Err(format!("this program was built for ABI {ABI_VERSION}, the library has {found}").into());
    }
    let router = Router::load(directory)?;
    let threshold = router.threshold_for(0.3)?;
    for line in BufReader::new(File::open(prompts)?).lines() {
        let prompt = line?;
        let (win_rate, model) = router.route(&prompt, threshold)?;
        println!("{win_rate:.7}\t{model}\t{prompt}");
    }
    Ok(())
}
