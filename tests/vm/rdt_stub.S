# What a kernel's pv_ops.cpu.{cpuid,read_msr,write_msr} point to in a guest with RDT (rdt_image.py links it into the
# kernel and fills `table`). CPUID gets the leaves of the table. Of the MSRs, IA32_QM_EVTSEL and IA32_QM_CTR are made
# up; QEMU takes writes to those of CAT and MBA and forgets them.

	.intel_syntax noprefix
	.globl	cpuid, read_msr, write_msr, write_msr_halves
	.text

	.set	IA32_QM_EVTSEL, 0xc8d
	.set	IA32_QM_CTR, 0xc8e
	.set	KEPT_MSR, 0xc0010117		# VM_HSAVE_PA: per CPU, QEMU keeps what is written, nothing here uses it
	.set	RMID_SHIFT, 20			# KEPT_MSR has to be aligned to 4096: RMID << 20 | event << 12
	.set	EVENT_SHIFT, 12
	.set	OCCUPANCY, 1			# events; 2 is MBM total, 3 MBM local

# Change *pointer as the row says.
	.macro	change pointer, offset
	mov	edx, [\pointer]
	and	edx, [rax + \offset]
	or	edx, [rax + \offset + 4]
	mov	[\pointer], edx
	.endm

# void cpuid(u32 *eax, u32 *ebx, u32 *ecx, u32 *edx)
cpuid:
	endbr64
	push	rbx
	mov	r8, rdx				# cpuid overwrites ecx and edx
	mov	r9, rcx
	mov	r10d, [rdi]			# leaf
	mov	r11d, [r8]			# subleaf
	mov	eax, r10d
	mov	ecx, r11d
	cpuid
	mov	[rdi], eax
	mov	[rsi], ebx
	mov	[r8], ecx
	mov	[r9], edx
	lea	rax, [rip + table]		# rows: leaf, subleaf, then what to keep and what to set of eax to edx
row:	cmp	dword ptr [rax], -1		# the last
	je	done
	cmp	[rax], r10d
	jne	next
	cmp	dword ptr [rax + 4], -1		# any subleaf
	je	apply
	cmp	[rax + 4], r11d
	jne	next
apply:
	change	rdi, 8
	change	rsi, 16
	change	r8, 24
	change	r9, 32
next:	add	rax, 40
	jmp	row
done:	pop	rbx
	ret

# void write_msr(u32 msr, u64 value): since Linux 6.16
	.balign	16, 0xcc
write_msr:
	endbr64
	cmp	edi, IA32_QM_EVTSEL
	jne	native_write_msr
	movzx	ecx, sil			# event
	shr	rsi, 32
	mov	eax, esi			# RMID
	jmp	keep

# void write_msr(u32 msr, u32 low, u32 high): before
	.balign	16, 0xcc
write_msr_halves:
	endbr64
	cmp	edi, IA32_QM_EVTSEL
	jne	native_write_msr
	movzx	ecx, sil
	mov	eax, edx
keep:	shl	eax, RMID_SHIFT
	shl	ecx, EVENT_SHIFT
	or	eax, ecx
	xor	edx, edx
	mov	ecx, KEPT_MSR
	wrmsr
	ret

# u64 read_msr(u32 msr). Occupancy: 1 to 3 units, by RMID. Bandwidth: grows with time, the faster the higher the RMID,
# total faster than local; 24 bits, so it wraps.
	.balign	16, 0xcc
read_msr:
	endbr64
	cmp	edi, IA32_QM_CTR
	jne	native_read_msr
	mov	ecx, KEPT_MSR
	rdmsr
	mov	r8d, eax
	shr	r8d, RMID_SHIFT
	shr	eax, EVENT_SHIFT
	movzx	r9d, al
	cmp	r9d, OCCUPANCY
	je	occupancy
	add	r8d, 4
	sub	r8d, r9d			# RMID + 2 of total, RMID + 1 of local
	rdtsc
	shl	rdx, 32
	or	rax, rdx
	shr	rax, 20
	imul	rax, r8
	and	eax, 0xffffff
	ret
occupancy:
	mov	eax, r8d
	xor	edx, edx
	mov	ecx, 3
	div	ecx
	lea	eax, [rdx + 1]
	ret

	.balign	16, 0xcc
table:
