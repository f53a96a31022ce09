/* What test pods run: podmain [--sleep SECONDS] [WORD]... prints the words with spaces between them, then sleeps or exits. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void stop(int number)
{
    (void)number;
    _exit(0);
}

int main(int argc, char **argv)
{
    int first = 1;
    unsigned seconds = 0;

    signal(SIGTERM, stop); /* PID 1 has no default action */
    signal(SIGINT, stop);
    if (argc > 2 && strcmp(argv[1], "--sleep") == 0) {
        seconds = (unsigned)strtoul(argv[2], NULL, 10);
        first = 3;
    }
    for (int i = first; i < argc; i++)
        printf("%s%s", argv[i], i + 1 < argc ? " " : "");
    printf("\n");
    fflush(stdout);
    while (seconds > 0)
        seconds = sleep(seconds);
    return 0;
}
