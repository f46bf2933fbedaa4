// Usage: route ROUTER_DIRECTORY PROMPTS. Routes each line of the file PROMPTS and prints win rate, model and prompt.
//
// The environment variables CGO_CFLAGS and CGO_LDFLAGS say where the library is; examples/run.sh sets them.
package main

/*
#include <stdlib.h>
#include "routellm_fast.h"

// Passes a Go string without a copy: the library needs no NUL at its end.
static routellm_status route_string(const routellm_router* router, _GoString_ text, double threshold, float* win_rate,
                                    int* is_strong) {
  return routellm_route(router, _GoStringPtr(text), _GoStringLen(text), threshold, win_rate, is_strong);
}
*/
import "C"

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"unsafe"
)

// Router may be used by any number of goroutines at the same time.
type Router struct{ handle *C.routellm_router }

// call runs a function of the library and returns its error. The text of an error belongs to the thread that the call
// was made on, so the goroutine must stay on its thread until the text is read.
func call(function func() C.routellm_status) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if status := function(); status != C.ROUTELLM_OK {
		return fmt.Errorf("%s: %s", C.GoString(C.routellm_status_name(status)), C.GoString(C.routellm_last_error()))
	}
	return nil
}

// Load reads a router directory.
func Load(directory string) (*Router, error) {
	path := C.CString(directory)
	defer C.free(unsafe.Pointer(path))
	router := &Router{}
	err := call(func() C.routellm_status { return C.routellm_load(path, nil, &router.handle) })
	return router, err
}

// Close frees the router. No call may be using it.
func (r *Router) Close() { C.routellm_free(r.handle) }

// ThresholdFor returns the threshold that sends a share of prompts to the strong model.
func (r *Router) ThresholdFor(strongShare float64) (float64, error) {
	var threshold C.double
	err := call(func() C.routellm_status {
		return C.routellm_threshold_for(r.handle, C.double(strongShare), &threshold)
	})
	return float64(threshold), err
}

// Route returns the win rate of a prompt and the model that it goes to.
func (r *Router) Route(prompt string, threshold float64) (float32, string, error) {
	var winRate C.float
	var isStrong C.int
	err := call(func() C.routellm_status {
		return C.route_string(r.handle, prompt, C.double(threshold), &winRate, &isStrong)
	})
	model := C.routellm_weak_model(r.handle)
	if isStrong != 0 {
		model = C.routellm_strong_model(r.handle)
	}
	return float32(winRate), C.GoString(model), err
}

func run(directory, prompts string) error {
	if found := uint32(C.routellm_abi_version()); found != C.ROUTELLM_FAST_ABI_VERSION {
		return fmt.Errorf("this program was built for ABI %d, the library has %d", C.ROUTELLM_FAST_ABI_VERSION, found)
	}
	router, err := Load(directory)
	if err != nil {
		return err
	}
	defer router.Close()
	threshold, err := router.ThresholdFor(0.3)
	if err != nil {
		return err
	}
	file, err := os.Open(prompts)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		winRate, model, err := router.Route(lines.Text(), threshold)
		if err != nil {
			return err
		}
		fmt.Printf("%.7f\t%s\t%s\n", winRate, model, lines.Text())
	}
	return lines.Err()
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: route ROUTER_DIRECTORY PROMPTS")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
