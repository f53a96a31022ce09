// Compresses standard input: encode go LEVEL, encode klauspost LEVEL, or encode pgzip LEVEL BLOCK.
package main

import (
	standard "compress/gzip"
	"io"
	"os"
	"strconv"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"
)

func main() {
	level, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	var writer io.WriteCloser
	switch os.Args[1] {
	case "go":
		writer, err = standard.NewWriterLevel(os.Stdout, level)
	case "klauspost":
		writer, err = gzip.NewWriterLevel(os.Stdout, level)
	case "pgzip":
		block, _ := strconv.Atoi(os.Args[3])
		var parallel *pgzip.Writer
		parallel, err = pgzip.NewWriterLevel(os.Stdout, level)
		if err == nil {
			err = parallel.SetConcurrency(block, 2)
		}
		writer = parallel
	}
	if err != nil {
		panic(err)
	}
	if _, err := io.Copy(writer, os.Stdin); err != nil {
		panic(err)
	}
	if err := writer.Close(); err != nil {
		panic(err)
	}
}
