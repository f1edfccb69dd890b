//go:build !linux

package bench

// maxrssUnit: macOS counts ru_maxrss in bytes.
const maxrssUnit = 1
