package run

import (
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// writeProcess writes what the process uses, and since when it runs. The metrics library could do so, but reads files
// of /proc that a process of another user than root may not read once it is not dumpable,
// and complains at each reading.
func writeProcess(w io.Writer, started time.Time) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	metrics.WriteGaugeUint64(w, "go_goroutines", uint64(runtime.NumGoroutine()))
	metrics.WriteGaugeUint64(w, "go_memstats_heap_inuse_bytes", m.HeapInuse)
	metrics.WriteCounterUint64(w, "go_gc_cycles_total", uint64(m.NumGC))
	metrics.WriteGaugeFloat64(w, "process_start_time_seconds", float64(started.UnixMilli())/1000)
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) == nil {
		metrics.WriteCounterFloat64(w, "process_cpu_seconds_total",
			time.Duration(u.Utime.Nano()+u.Stime.Nano()).Seconds())
	}
	if pages, ok := residentPages(); ok {
		metrics.WriteGaugeUint64(w, "process_resident_memory_bytes", pages*uint64(os.Getpagesize()))
	}
}

// residentPages reads the second field of /proc/self/statm (proc_pid_statm(5)).
func residentPages() (uint64, bool) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, false
	}
	n, err := strconv.ParseUint(fields[1], 10, 64)
	return n, err == nil
}
