// One thread leaves a stack and goes on with another: what ucontext.h does, without a call of the system for each switch.
#pragma once

// Keeps on this stack what a function must leave as it was, stores where the stack ends in `from`, and returns to whoever did so
// with the stack that ends at `to`.
extern "C" void msl_switch(void** from, void* to);

#if defined(__x86_64__)
asm(R"(
    .text
    .type msl_switch, @function
msl_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size msl_switch, .-msl_switch
)");

// The end of a new stack, from which a switch begins `entry`, which never returns. `end` is a multiple of 16.
inline void* msl_begin(char* end, void (*entry)()) {
    void** top = reinterpret_cast<void**>(end);
    // Nobody's return address, where a call leaves one; below it what the switch returns to, and six registers.
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    return top;
}
#elif defined(__aarch64__)
asm(R"(
    .text
    .type msl_switch, %function
msl_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size msl_switch, .-msl_switch
)");

// The end of a new stack, from which a switch begins `entry`, which never returns. `end` is a multiple of 16.
inline void* msl_begin(char* end, void (*entry)()) {
    void** top = reinterpret_cast<void**>(end) - 20;
    for (int i = 0; i < 20; i++) top[i] = nullptr;
    // The link register.
    top[11] = reinterpret_cast<void*>(entry);
    return top;
}
#else
#error "a switch between stacks is written for x86-64 and aarch64"
#endif
