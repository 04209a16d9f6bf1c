/*
 * Licensed under the Apache License, Version 2.0 (the "License");
 * you may not use this file except in compliance with the License.
 * You may obtain a copy of the License at:
 *
 *     http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS,
 * WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
 * See the License for the specific language governing permissions and
 * limitations under the License.
 */

/* Finds what PMD threads write for each other to see.
 *
 * A program that is built with -fsanitize=thread calls the runtime library of
 * ThreadSanitizer at each access to memory, atomic or not.  This takes the
 * place of that library, and looks for no races: it notes which cache lines
 * the threads of such an ovs-vswitchd whose names begin with "pmd-" read and
 * write, and where, within a function of interest, such as the one that
 * handles packets, and whatever that calls.  tests/bench_pmds.py builds it and
 * makes sense of what it prints.
 *
 * In the environment, SHARED_WRITES_IN is "START-END", the addresses of that
 * function in the file of the program, in hexadecimal, and SHARED_WRITES_OUT
 * the file to write to.  It starts with SIGUSR1, and stops and writes with
 * SIGUSR2:
 *
 *     base ADDRESS               of the program
 *     full                       if there were too many lines to note them all
 *     line ADDRESS               of a line that several threads access, and at
 *                                least one writes; followed by
 *      w THREAD TIMES BYTES PC...
 *      r THREAD TIMES BYTES PC...
 *     end
 *
 * where BYTES has a bit for each byte of the line, and the PCs are the place
 * of the first access, where its function was called, and so on. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define MAX_THREADS 4
#define MAX_DEPTH 256
#define N_PCS 6
#define LINE_BITS 6
#define TABLE_BITS 18
#define TABLE_SIZE (1u << TABLE_BITS)

/* What a thread does with a line. */
struct access {
    uint64_t bytes;             /* As bits. */
    uint64_t times;
    uintptr_t pcs[N_PCS];       /* The place first. */
};

struct line {
    uintptr_t number;           /* Its address >> LINE_BITS, 0 if unused. */
    struct access accesses[MAX_THREADS][2]; /* Reads, writes. */
};

static struct line lines[TABLE_SIZE]; /* Hash table. */
static uintptr_t base;          /* Of the program. */
static uintptr_t start, end;    /* Of the function of interest. */
static const char *out;
static bool running;
static bool full;               /* Has 'lines' been too small? */
static int n_threads;

/* Of a thread. */
#define PER_THREAD static __thread __attribute__((tls_model("initial-exec")))
PER_THREAD int thread = -2;     /* -1 if it is of no interest, -2 if it has
                                 * not been looked at. */
PER_THREAD uintptr_t callers[MAX_DEPTH];
PER_THREAD unsigned int depth;
PER_THREAD unsigned int inside; /* 'depth' of the function of interest. */

/* Returns the line with 'number', which may be new, NULL if there is no room
 * nearby. */
static struct line *
find_line(uintptr_t number)
{
    uint64_t hash = number * UINT64_C(0x9e3779b97f4a7c15);

    for (uint32_t i = 0; i < 1000; i++) {
        struct line *line = &lines[((hash >> (64 - TABLE_BITS)) + i)
                                   % TABLE_SIZE];
        uintptr_t old = 0;

        if (__atomic_load_n(&line->number, __ATOMIC_RELAXED) == number
            || __atomic_compare_exchange_n(&line->number, &old, number, false,
                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED)
            || old == number) {
            return line;
        }
    }
    full = true;
    return NULL;
}

static void
note(const volatile void *p, size_t size, bool write, void *pc)
{
    uintptr_t first = (uintptr_t) p;
    uintptr_t last = first + size - 1;

    if (!inside || !size || !__atomic_load_n(&running, __ATOMIC_RELAXED)) {
        return;
    }
    for (uintptr_t n = first >> LINE_BITS; n <= last >> LINE_BITS; n++) {
        uintptr_t line_start = n << LINE_BITS;
        uintptr_t line_end = line_start + (1 << LINE_BITS) - 1;
        struct line *line = find_line(n);
        struct access *a = line ? &line->accesses[thread][write] : NULL;
        unsigned int from = first > line_start ? first - line_start : 0;
        unsigned int to = last < line_end ? last - line_start : 63;

        if (!a) {
            return;
        } else if (!a->times++) {
            a->pcs[0] = (uintptr_t) pc;
            for (unsigned int i = 1; i < N_PCS && i <= depth; i++) {
                a->pcs[i] = callers[(depth - i) % MAX_DEPTH];
            }
        }
        a->bytes |= UINT64_MAX >> (63 - to) & UINT64_MAX << from;
    }
}

/* Returns the number of the calling thread, a negative one if it is of no
 * interest. */
static int
thread_number(void)
{
    if (thread == -2) {
        char name[17] = "";

        prctl(PR_GET_NAME, name);
        thread = -1;
        if (!strncmp(name, "pmd-", 4)) {
            thread = __atomic_fetch_add(&n_threads, 1, __ATOMIC_RELAXED);
            thread = thread < MAX_THREADS ? thread : -1;
        }
    }
    return thread;
}

static void
start_running(int signr)
{
    (void) signr;
    __atomic_store_n(&running, true, __ATOMIC_RELAXED);
}

static void
print_accesses(FILE *file, const struct line *line)
{
    fprintf(file, "line %#lx\n", line->number << LINE_BITS);
    for (int i = 0; i < MAX_THREADS; i++) {
        for (int j = 0; j < 2; j++) {
            const struct access *a = &line->accesses[i][j];

            if (a->times) {
                fprintf(file, " %c %d %lu %#lx", "rw"[j], i, a->times,
                        a->bytes);
                for (int k = 0; k < N_PCS; k++) {
                    fprintf(file, " %#lx", a->pcs[k]);
                }
                fputc('\n', file);
            }
        }
    }
}

/* The program only has to live as long as this takes, so that what a signal
 * handler should not do does no harm. */
static void
stop_running(int signr)
{
    FILE *file;

    (void) signr;
    __atomic_store_n(&running, false, __ATOMIC_RELAXED);
    usleep(100000);
    file = fopen(out, "w");
    if (!file) {
        return;
    }
    fprintf(file, "base %#lx\n%s", base, full ? "full\n" : "");
    for (size_t i = 0; i < TABLE_SIZE; i++) {
        int accessors = 0, writers = 0;

        for (int j = 0; lines[i].number && j < MAX_THREADS; j++) {
            const struct access *a = lines[i].accesses[j];

            accessors += a[0].times || a[1].times;
            writers += a[1].times != 0;
        }
        if (accessors > 1 && writers) {
            print_accesses(file, &lines[i]);
        }
    }
    fprintf(file, "end\n");
    fclose(file);
    memset(lines, 0, sizeof lines);
}

static int
find_base(struct dl_phdr_info *info, size_t size, void *aux)
{
    (void) size;
    (void) aux;
    base = info->dlpi_addr;     /* The first is the program. */
    return 1;
}

static void __attribute__((constructor))
init(void)
{
    const char *in = getenv("SHARED_WRITES_IN");

    out = getenv("SHARED_WRITES_OUT");
    if (!in || !out || sscanf(in, "%lx-%lx", &start, &end) != 2) {
        return;
    }
    dl_iterate_phdr(find_base, NULL);
    start += base;
    end += base;
    signal(SIGUSR1, start_running);
    signal(SIGUSR2, stop_running);
}

/* What the compiler has a program call. */

#define PC __builtin_return_address(0)

void __tsan_init(void);
void __tsan_func_entry(void *);
void __tsan_func_exit(void);
void __tsan_read_range(void *, size_t);
void __tsan_write_range(void *, size_t);
void __tsan_atomic_thread_fence(int);
void __tsan_acquire(void *);
void __tsan_release(void *);

void
__tsan_init(void)
{
}

/* For tests/tsan.h. */
void
__tsan_acquire(void *p)
{
    (void) p;
}

void
__tsan_release(void *p)
{
    (void) p;
}

/* 'caller' is where the function returns to. */
void
__tsan_func_entry(void *caller)
{
    uintptr_t pc = (uintptr_t) PC;

    callers[depth++ % MAX_DEPTH] = (uintptr_t) caller;
    if (!inside && pc >= start && pc < end && thread_number() >= 0) {
        inside = depth;
    }
}

void
__tsan_func_exit(void)
{
    if (inside == depth) {
        inside = 0;
    }
    depth--;
}

#define ACCESSES(SIZE)                                  \
    void __tsan_read##SIZE(void *);                     \
    void __tsan_write##SIZE(void *);                    \
    void                                                \
    __tsan_read##SIZE(void *p)                          \
    {                                                   \
        note(p, SIZE, false, PC);                       \
    }                                                   \
    void                                                \
    __tsan_write##SIZE(void *p)                         \
    {                                                   \
        note(p, SIZE, true, PC);                        \
    }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

void
__tsan_read_range(void *p, size_t size)
{
    note(p, size, false, PC);
}

void
__tsan_write_range(void *p, size_t size)
{
    note(p, size, true, PC);
}

/* Whatever the memory order asked for, the strictest will do. */
#define ATOMIC_OP(BITS, NAME, WRITE, OP)                                    \
    uint##BITS##_t __tsan_atomic##BITS##_##NAME(                            \
        volatile uint##BITS##_t *, uint##BITS##_t, int);                    \
    uint##BITS##_t                                                          \
    __tsan_atomic##BITS##_##NAME(volatile uint##BITS##_t *p,                \
                                 uint##BITS##_t value, int order)           \
    {                                                                       \
        (void) order;                                                       \
        note(p, BITS / 8, WRITE, PC);                                       \
        return OP(p, value, __ATOMIC_SEQ_CST);                              \
    }
#define ATOMIC_CAS(BITS, NAME)                                              \
    int __tsan_atomic##BITS##_compare_exchange_##NAME(                      \
        volatile uint##BITS##_t *, uint##BITS##_t *, uint##BITS##_t, int,   \
        int);                                                               \
    int                                                                     \
    __tsan_atomic##BITS##_compare_exchange_##NAME(                          \
        volatile uint##BITS##_t *p, uint##BITS##_t *expected,               \
        uint##BITS##_t value, int order, int order2)                        \
    {                                                                       \
        (void) order;                                                       \
        (void) order2;                                                      \
        note(p, BITS / 8, true, PC);                                        \
        return __atomic_compare_exchange_n(p, expected, value, false,       \
                                           __ATOMIC_SEQ_CST,                \
                                           __ATOMIC_SEQ_CST);               \
    }
#define ATOMICS(BITS)                                                       \
    uint##BITS##_t __tsan_atomic##BITS##_load(                              \
        const volatile uint##BITS##_t *, int);                              \
    void __tsan_atomic##BITS##_store(volatile uint##BITS##_t *,             \
                                     uint##BITS##_t, int);                  \
    uint##BITS##_t                                                          \
    __tsan_atomic##BITS##_load(const volatile uint##BITS##_t *p, int order) \
    {                                                                       \
        (void) order;                                                       \
        note(p, BITS / 8, false, PC);                                       \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);                        \
    }                                                                       \
    void                                                                    \
    __tsan_atomic##BITS##_store(volatile uint##BITS##_t *p,                 \
                                uint##BITS##_t value, int order)            \
    {                                                                       \
        (void) order;                                                       \
        note(p, BITS / 8, true, PC);                                        \
        __atomic_store_n(p, value, __ATOMIC_SEQ_CST);                       \
    }                                                                       \
    ATOMIC_OP(BITS, exchange, true, __atomic_exchange_n)                    \
    ATOMIC_OP(BITS, fetch_add, true, __atomic_fetch_add)                    \
    ATOMIC_OP(BITS, fetch_sub, true, __atomic_fetch_sub)                    \
    ATOMIC_OP(BITS, fetch_and, true, __atomic_fetch_and)                    \
    ATOMIC_OP(BITS, fetch_or, true, __atomic_fetch_or)                      \
    ATOMIC_OP(BITS, fetch_xor, true, __atomic_fetch_xor)                    \
    ATOMIC_CAS(BITS, weak)                                                  \
    ATOMIC_CAS(BITS, strong)
ATOMICS(8)
ATOMICS(16)
ATOMICS(32)
ATOMICS(64)

void
__tsan_atomic_thread_fence(int order)
{
    (void) order;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* What ThreadSanitizer intercepts, as far as packets need it. */

extern int __cxa_atexit(void (*)(void *), void *, void *);

int
atexit(void (*function)(void))
{
    return __cxa_atexit((void (*)(void *)) function, NULL, NULL);
}

void *
memcpy(void *restrict dst, const void *restrict src, size_t n)
{
    void *d = dst;

    note(dst, n, true, PC);
    note(src, n, false, PC);
    asm volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n) : : "memory");
    return dst;
}

void *
memset(void *dst, int c, size_t n)
{
    void *d = dst;

    note(dst, n, true, PC);
    asm volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
    return dst;
}

#define LOCK(FUNCTION, TYPE)                            \
    int                                                 \
    FUNCTION(TYPE *lock)                                \
    {                                                   \
        static int (*real)(TYPE *);                     \
                                                        \
        if (!real) {                                    \
            real = dlsym(RTLD_NEXT, #FUNCTION);         \
        }                                               \
        note(lock, sizeof(int), true, PC);              \
        return real(lock);                              \
    }
LOCK(pthread_mutex_lock, pthread_mutex_t)
LOCK(pthread_mutex_trylock, pthread_mutex_t)
LOCK(pthread_mutex_unlock, pthread_mutex_t)
LOCK(pthread_rwlock_rdlock, pthread_rwlock_t)
LOCK(pthread_rwlock_wrlock, pthread_rwlock_t)
LOCK(pthread_rwlock_unlock, pthread_rwlock_t)
