package bench

// maxrssUnit: Linux counts ru_maxrss in KiB.
const maxrssUnit = 1024
