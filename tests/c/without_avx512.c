// Makes a program believe that the processor has AVX2 but neither AVX-512 nor VNNI nor AMX, with every library that it loads:
// PyTorch has a switch for that, ONNX Runtime has none. Used by .ci/avx2. Linux on an Intel processor (flag cpuid_fault).
//
//   cc -O1 -shared -fPIC -o without_avx512.so without_avx512.c -ldl
//   LD_PRELOAD=$PWD/without_avx512.so python …
//
// The kernel is told to let CPUID fault; the handler of the fault asks the processor and takes these flags out of the answer.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define SET_CPUID 0x1012  // of arch_prctl
#define BIT(n) (1u << (n))

static void emulate(int number, siginfo_t *info, void *context) {
  greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
  const uint8_t *at = (const uint8_t *)r[REG_RIP];
  if (info->si_code != SI_KERNEL || at[0] != 0x0f || at[1] != 0xa2) {  // a real fault
    syscall(SYS_rt_sigaction, number, &(struct { void *handler; unsigned long flags[3]; }){SIG_DFL, {0}}, 0, 8);
    return;
  }
  const uint32_t leaf = r[REG_RAX], sub = r[REG_RCX];
  uint32_t a = leaf, b = 0, c = sub, d = 0;
  syscall(SYS_arch_prctl, SET_CPUID, 1);
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  syscall(SYS_arch_prctl, SET_CPUID, 0);
  if (leaf == 7 && sub == 0) {
    b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));  // avx512f, dq, ifma, pf, er, cd, bw, vl
    c &= ~(BIT(1) | BIT(6) | BIT(8) | BIT(9) | BIT(10) | BIT(11) | BIT(12) | BIT(14));      // vbmi, vbmi2, gfni, vaes, vnni, bitalg …
    d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));               // amx_bf16, fp16, amx_tile, amx_int8 …
  } else if (leaf == 7 && sub == 1) {
    a &= ~(BIT(4) | BIT(5) | BIT(21) | BIT(23));            // avx_vnni, avx512_bf16, amx_fp16, avx_ifma
    d &= ~(BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19));   // avx_vnni_int8, avx_ne_convert, amx_complex, avx_vnni_int16, avx10
  } else if (leaf == 7 || leaf == 0x1d || leaf == 0x1e || leaf == 0x24) {
    a = b = c = d = 0;
  }
  r[REG_RAX] = a, r[REG_RBX] = b, r[REG_RCX] = c, r[REG_RDX] = d;
  r[REG_RIP] += 2;
}

// Nobody else gets SIGSEGV: Python's faulthandler, PyTorch and Chromium would take the emulation away.
int sigaction(int number, const struct sigaction *new, struct sigaction *old) {
  static int (*real)(int, const struct sigaction *, struct sigaction *);
  if (!real) real = dlsym(RTLD_NEXT, "sigaction");
  if (number != SIGSEGV || (new && new->sa_sigaction == emulate)) return real(number, new, old);
  if (old) memset(old, 0, sizeof *old);
  return 0;
}

__sighandler_t signal(int number, __sighandler_t handler) {
  static __sighandler_t (*real)(int, __sighandler_t);
  if (!real) real = dlsym(RTLD_NEXT, "signal");
  return number == SIGSEGV ? SIG_DFL : real(number, handler);
}

__attribute__((constructor)) static void start(void) {
  struct sigaction action = {.sa_sigaction = emulate, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGSEGV, &action, 0);
  syscall(SYS_arch_prctl, SET_CPUID, 0);
}
